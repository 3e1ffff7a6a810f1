/**
 * The store in Redis beside BullMQ and Effect's `PersistedQueue`, on one server of the bench's own.
 */
import { RedisStore } from "@effect-docket/redis-store"
import { Effect, Layer } from "effect"
import type { Suite } from "./harness.ts"
import * as limits from "./limits.ts"
import { bullmq } from "./redis/bullmq.ts"
import { docket } from "./redis/docket.ts"
import { persistedQueue } from "./redis/persistedQueue.ts"
import { start } from "./redis/server.ts"
import { backlogRatios, make } from "./redis/workloads.ts"

/** Starts the server. */
export const open = async (scale: number): Promise<Suite> => {
  const server = await start()
  const limited = limits.make({
    system: docket.name,
    store: Layer.unwrap(Effect.as(Effect.promise(server.flush), RedisStore.layer({ url: server.url }))),
    server
  }, scale)
  return {
    workloads: [...make(server, [docket, bullmq, persistedQueue], scale), ...limited.workloads],
    ratios: (rows) => [...backlogRatios(rows), ...limited.ratios(rows)],
    machine: { redis: server.version },
    close: server.stop
  }
}
