/**
 * Where a server is: URLs of single servers, of Sentinels and of clusters.
 *
 * ```
 * redis://user:password@host:6379/0              rediss://… with TLS
 * unix:///run/redis.sock?db=0
 * redis+sentinel://host1:26379,host2:26379/mymaster?db=0       rediss+sentinel://… with TLS
 * redis+cluster://host1:7000,host2:7000                        rediss+cluster://… with TLS
 * ```
 */
import * as Result from "effect/Result"

/** A host with its port. */
export interface Node {
  readonly host: string
  readonly port: number
}

/** What a URL says. */
export interface Address {
  readonly kind: "single" | "sentinel" | "cluster" | "socket"
  readonly nodes: ReadonlyArray<Node>
  readonly path: string
  readonly username: string | undefined
  readonly password: string | undefined
  readonly db: number
  readonly tls: boolean
  /** The name of the master that Sentinels watch. */
  readonly master: string | undefined
}

const pattern =
  /^(?<scheme>rediss?|rediss?\+sentinel|rediss?\+cluster|unix):\/\/(?:(?<user>[^:@/]*)(?::(?<password>[^@/]*))?@)?(?<hosts>[^/?]*)(?<path>\/[^?]*)?(?:\?(?<query>.*))?$/

const readNode = (text: string, port: number): Node | undefined => {
  // a host with an `@` is the rest of a password that should have been encoded
  const match = /^(?<host>\[[^\]@]+\]|[^:@]*)(?::(?<port>\d{1,5}))?$/.exec(text)
  if (match === null || Number(match.groups!["port"]) > 65_535) return undefined
  const { host = "", port: given } = match.groups as Readonly<Record<string, string | undefined>> // the groups of the pattern
  return { host: host.replaceAll(/[[\]]/g, "") || "127.0.0.1", port: given === undefined ? port : Number(given) }
}

// What is not encoded well, such as a lone percent sign.
const isEncoded = (text: string): boolean => Result.isSuccess(Result.try(() => decodeURIComponent(text)))

const decoded = (text: string | undefined): string | undefined =>
  text === undefined || text === "" ? undefined : decodeURIComponent(text)

/** Reads a URL. The error says what is wrong without repeating the URL, which may hold a password. */
export const parse = (url: string): Result.Result<Address, string> => {
  const groups = pattern.exec(url)?.groups as Readonly<Record<string, string | undefined>> | undefined // those of the pattern
  if (groups === undefined) {
    return Result.fail("has to begin with redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://")
  }
  const { hosts = "", password, path = "", query = "", scheme = "", user } = groups
  if (!isEncoded(`${user}${password}${path}`)) {
    return Result.fail("has a percent sign that encodes nothing: write it as %25")
  }
  const kind = scheme === "unix"
    ? "socket"
    : scheme.endsWith("sentinel")
    ? "sentinel"
    : scheme.endsWith("cluster")
    ? "cluster"
    : "single"
  const nodes = kind === "socket"
    ? []
    : hosts.split(",").map((host) => readNode(host, kind === "sentinel" ? 26379 : 6379))
  if (nodes.includes(undefined)) {
    return Result.fail("names a host or a port that is none (a password with @, : or / has to be percent-encoded)")
  }
  if (kind === "single" && nodes.length > 1) {
    return Result.fail("names several hosts: use redis+sentinel:// or redis+cluster://")
  }
  const rest = decoded(path.slice(1))
  if (kind === "sentinel" && rest === undefined) {
    return Result.fail("has to name the master after the hosts: redis+sentinel://host:26379/mymaster")
  }
  const db = Number(kind === "single" ? rest ?? "0" : new URLSearchParams(query).get("db") ?? "0")
  if (!Number.isSafeInteger(db) || db < 0) return Result.fail("names a database that is no number")
  return Result.succeed({
    kind,
    nodes: nodes.filter((node) => node !== undefined),
    path,
    username: decoded(user),
    password: decoded(password),
    db,
    tls: scheme.startsWith("rediss"),
    master: kind === "sentinel" ? rest : undefined
  })
}
