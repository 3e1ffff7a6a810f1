/**
 * BullMQ on ioredis, as its documentation shows it; the key is the id of the job.
 */
import { Queue, Worker } from "bullmq"
import { inFlight, type Payload, payload, type Session, type System } from "./system.ts"

const batch = 1000

const open = async (port: number): Promise<Session> => {
  const connection = { host: "127.0.0.1", port, maxRetriesPerRequest: null }
  const queue = new Queue<Payload, number, string>("bench", { connection })
  await queue.waitUntilReady()
  const optionsOf = (id: string, due?: number) => ({
    jobId: id,
    ...(due === undefined ? {} : { delay: Math.max(0, due - Date.now()) })
  })
  const add = (n: number, due?: number) => {
    const data = payload(n)
    return queue.add("tick", data, optionsOf(data.id, due))
  }
  return {
    addEach: (first, n, atOnce) => inFlight(first, n, atOnce, (n) => add(n)),
    addAll: async (first, n, due) => {
      for (let at = first; at < first + n; at += batch) {
        // oxlint-disable-next-line no-await-in-loop -- one batch after the other
        await queue.addBulk(Array.from({ length: Math.min(batch, first + n - at) }, (_, i) => {
          const data = payload(at + i)
          return { name: "tick", data, opts: optionsOf(data.id, due) }
        }))
      }
    },
    addAt: async (n, due) => {
      await add(n, due)
    },
    work: async (concurrency, onStart, onSettled) => {
      const worker = new Worker<Payload, number, string>("bench", ({ data: { n } }) => {
        onStart(n)
        return Promise.resolve(n + 1)
      }, { connection, concurrency })
      worker.on("completed", onSettled)
      worker.on("error", () => {})
      await worker.waitUntilReady()
      return { stop: () => worker.close() }
    },
    close: () => queue.close()
  }
}

/** The system. */
export const bullmq: System = {
  name: "BullMQ 6.7.0",
  note: "payload and result are not checked against a schema",
  tellsSettled: true,
  open
}
