/**
 * Flows of BullMQ, as its documentation shows them: a tree of jobs that is added as a whole; a parent runs when its children
 * have ended. A tree is known from the beginning, so its fan-outs are not computed by a step.
 */
import { type FlowJob, FlowProducer, Queue, QueueEvents, Worker } from "bullmq"
import { concurrency, few, type Session, type System } from "./system.ts"

const name = "bench-flows"

const step = (n: number, children?: Array<FlowJob>): FlowJob => ({
  name: "next",
  queueName: name,
  data: { n },
  ...(children === undefined ? {} : { children })
})

const members = (n: number): Array<FlowJob> => Array.from({ length: n }, (_, i) => step(i))

const fan = (n: number): FlowJob => ({ name: "join", queueName: name, data: {}, children: members(n) })

// the first step of a small flow is a child as well: it is there before the others
const small = (): FlowJob => ({
  name: "join",
  queueName: name,
  data: {},
  children: Array.from({ length: few }, (_, i) => i === 0 ? step(i, [step(0)]) : step(i))
})

const open = async (port: number): Promise<Session> => {
  const connection = { host: "127.0.0.1", port, maxRetriesPerRequest: null }
  const producer = new FlowProducer({ connection })
  const queue = new Queue(name, { connection })
  const events = new QueueEvents(name, { connection })
  const worker = new Worker<{ n?: number }, number>(
    name,
    async (job) => {
      if (job.name !== "join") return (job.data.n ?? 0) + 1
      return Object.keys(await job.getChildrenValues()).length
    },
    { connection, concurrency }
  )
  worker.on("error", () => {})
  await Promise.all([
    producer.waitUntilReady(),
    queue.waitUntilReady(),
    events.waitUntilReady(),
    worker.waitUntilReady()
  ])
  const ended = async (flow: FlowJob) => {
    const { job } = await producer.add(flow)
    await job.waitUntilFinished(events)
  }
  const bulk = async (flows: Array<FlowJob>) => {
    const nodes = await producer.addBulk(flows)
    await Promise.all(nodes.map(({ job }) => job.waitUntilFinished(events)))
  }
  return {
    chain: (n) => {
      let job = step(0)
      for (let i = 1; i < n; i++) job = step(i, [job])
      return ended(job)
    },
    fan: (n) => ended(fan(n)),
    many: (n) => bulk(Array.from({ length: n }, small)),
    waiting: async (n) => {
      await worker.pause()
      await producer.addBulk(Array.from({ length: n }, small))
    },
    close: async () => {
      await worker.close()
      await Promise.all([producer.close(), queue.close(), events.close()])
    }
  }
}

/** The system. */
export const bullmq: System = {
  name: "BullMQ 6.7.0",
  note: "in flows, the whole tree is written when it is added: a step decides nothing",
  open
}
