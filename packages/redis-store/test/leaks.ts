/**
 * What a docket leaves in its server, and the connection that looks.
 */
import type { DocketStore } from "@effect-docket/runtime"
import { Effect } from "effect"
import type { Redis } from "ioredis"
import { type Server } from "./server.ts"

type StoredDocket = DocketStore.StoredDocket

// What `internal/layout.ts` says lives for ever, or until an operator undoes it.
const permanent = new Set(["meta", "counts", "strikes", "pauses"])
// What lives as long as there are pending or running runs.
const whilePending = /^(?:runs|notes|gates|held|looks|deadlines|flow:[^]*|g:[^]*:(?:ready|prio|due|lease))$/

const escaped = (text: string): string => text.replaceAll(/[*?[\]\\]/g, "\\$&")

const rootOf = (name: string): string => `docket:{${encodeURIComponent(name)}}:`

const scan = async (admin: Redis, pattern: string): Promise<ReadonlyArray<string>> => {
  const found = new Set<string>()
  let cursor = "0"
  do {
    // one page after the other
    // oxlint-disable-next-line no-await-in-loop
    const [next, keys] = await admin.scan(cursor, "MATCH", pattern, "COUNT", 1000)
    for (const key of keys) found.add(key)
    cursor = next
  } while (cursor !== "0")
  return Array.from(found)
}

/** Names of the keys of a docket that live until somebody removes them. */
const lasting = async (servers: ReadonlyArray<Server>, name: string): Promise<ReadonlyArray<string>> => {
  const root = rootOf(name)
  const ofServer = async ({ admin }: Server) => {
    const keys = await scan(admin, `${escaped(root)}*`)
    const lives = await Promise.all(keys.map((key) => admin.pttl(key)))
    return keys.filter((_, index) => lives[index] === -1).map((key) => key.slice(root.length))
  }
  return (await Promise.all(servers.map(ofServer))).flat()
}

const remove = async (servers: ReadonlyArray<Server>, name: string): Promise<void> => {
  const ofServer = async ({ admin }: Server) => {
    const keys = await scan(admin, `${escaped(rootOf(name))}*`)
    // in a cluster, keys of one docket are in one slot
    if (keys.length > 0) await admin.unlink(...keys)
  }
  await Promise.all(servers.map(ofServer))
}

/**
 * Keys of a docket that nobody uses any more that have neither a time to live nor a reason to be there: first as it is, then
 * when what is pending has been cleared. Then it removes all of them.
 */
export const leaks = (masters: Effect.Effect<ReadonlyArray<Server>>) =>
  Effect.fnUntraced(function*(store: StoredDocket) {
    const servers = yield* masters
    const before = yield* Effect.promise(() => lasting(servers, store.name))
    const found = before.filter((key) => !permanent.has(key) && !whilePending.test(key))
    const running = (yield* store.counts).some((count) => count.running > 0)
    yield* store.clear
    const after = yield* Effect.promise(() => lasting(servers, store.name))
    for (const key of after) {
      if (permanent.has(key) || (running && /^runs$|^notes$|:lease$/.test(key))) continue
      found.push(`${key}, with nothing pending`)
    }
    yield* Effect.promise(() => remove(servers, store.name))
    return found
  })
