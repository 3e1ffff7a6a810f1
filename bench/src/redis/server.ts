/**
 * A Redis server of the bench's own: on a free port of the loopback, in a temporary folder, without persistence.
 */
import { Redis } from "ioredis"
import { type ChildProcess, spawn } from "node:child_process"
import { accessSync, constants, mkdtempSync, rmSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { delimiter, join } from "node:path"

/** A server, and what it says of itself. */
export interface Server {
  readonly url: string
  readonly port: number
  /** A connection of the bench: what it sends is not counted. */
  readonly client: Redis
  /** Which program in which version. */
  readonly version: string
  readonly flush: () => Promise<void>
  readonly bytes: () => Promise<number>
  /** Commands so far, also those that scripts call. */
  readonly commands: () => Promise<number>
  /** Microseconds of processor time so far. */
  readonly micros: () => Promise<number>
  readonly stop: () => Promise<void>
}

const isExecutable = (file: string): boolean => {
  try {
    accessSync(file, constants.X_OK)
    return true
  } catch {
    return false
  }
}

const program = (): string => {
  const named = process.env["DOCKET_REDIS_SERVER"]
  const names = named === undefined || named === "" ? ["redis-server", "valkey-server"] : [named]
  const folders = (process.env["PATH"] ?? "").split(delimiter)
  const found = names
    .flatMap((name) => name.includes("/") ? [name] : folders.map((folder) => join(folder, name)))
    .find(isExecutable)
  if (found !== undefined) return found
  throw new Error(
    `no Redis server (${names.join(", ")}): install redis-server or valkey-server, or name one with DOCKET_REDIS_SERVER`
  )
}

const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = createServer().once("error", reject).listen(0, "127.0.0.1", () => {
      const address = server.address()
      server.close(() => typeof address === "object" && address !== null ? resolve(address.port) : reject(new Error()))
    })
  })

const exited = (child: ChildProcess): Promise<void> =>
  new Promise((resolve) => {
    if (child.exitCode === null && child.signalCode === null) child.once("exit", () => resolve())
    else resolve()
  })

/** The field of a section of INFO. */
const field = (info: string, name: string): string =>
  info.split("\r\n").find((line) => line.startsWith(`${name}:`))?.slice(name.length + 1) ?? ""

/** Starts one. */
export const start = async (): Promise<Server> => {
  const file = program()
  const port = await freePort()
  const folder = mkdtempSync(join(tmpdir(), "docket-bench-"))
  const options = { port, bind: "127.0.0.1", dir: folder, save: "", appendonly: "no", daemonize: "no" }
  const child = spawn(file, Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)]), {
    stdio: "ignore"
  })
  const kill = () => child.kill("SIGKILL")
  process.once("exit", kill)
  const client = new Redis({
    port,
    replyMapping: "legacy",
    maxRetriesPerRequest: null,
    retryStrategy: (times) => times > 100 || child.exitCode !== null ? null : 50
  })
  client.on("error", () => {})
  const info = await client.info("server")
  return {
    url: `redis://127.0.0.1:${port}`,
    port,
    client,
    version: field(info, "valkey_version") === ""
      ? `Redis ${field(info, "redis_version")}`
      : `Valkey ${field(info, "valkey_version")}`,
    flush: async () => {
      await client.flushall()
    },
    bytes: async () => Number(field(await client.info("memory"), "used_memory")),
    commands: async () =>
      Array.from((await client.info("commandstats")).matchAll(/^cmdstat_([^:]+):calls=(\d+)/gm))
        .filter(([, name]) => name !== "info" && name !== "flushall")
        .reduce((sum, [, , calls]) => sum + Number(calls), 0),
    micros: async () => {
      const cpu = await client.info("cpu")
      return (Number(field(cpu, "used_cpu_user")) + Number(field(cpu, "used_cpu_sys"))) * 1e6
    },
    stop: async () => {
      client.disconnect()
      child.kill("SIGTERM")
      await exited(child)
      process.off("exit", kill)
      rmSync(folder, { recursive: true, force: true })
    }
  }
}
