/**
 * The store in Redis beside BullMQ and Effect's `PersistedQueue`, on one server of the bench's own.
 */
import type { Suite } from "./harness.ts"
import { bullmq } from "./redis/bullmq.ts"
import { docket } from "./redis/docket.ts"
import { persistedQueue } from "./redis/persistedQueue.ts"
import { start } from "./redis/server.ts"
import { backlogRatios, make } from "./redis/workloads.ts"

/** Starts the server. */
export const open = async (scale: number): Promise<Suite> => {
  const server = await start()
  return {
    workloads: make(server, [docket, bullmq, persistedQueue], scale),
    ratios: backlogRatios,
    machine: { redis: server.version },
    close: server.stop
  }
}
