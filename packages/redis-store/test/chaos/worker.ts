/**
 * A worker: `worker.ts URL DOCKET NAME LEASE SLOTS LEDGER OVER`. `OVER` is a file that, when it is there, ends the beats. It
 * writes down what passes between it and the store: which claims it gets, and what becomes of renewals and settlements.
 */
import { now } from "./clock.ts"
// the clock comes first
import { Execution } from "@effect-docket/dsl"
import { RedisStore } from "@effect-docket/redis-store"
import { DocketEngine, DocketStore, Worker } from "@effect-docket/runtime"
import { DateTime, Effect, Fiber, Layer, Logger, Schedule } from "effect"
import { existsSync } from "node:fs"
import * as book from "./book.ts"
import * as tasks from "./tasks.ts"

const [url = "", docket = "", name = "", lease = "", slots = "", file = "", over = ""] = process.argv.slice(2)

const write = book.open(file)

write({ tag: "code", at: now(), from: import.meta.resolve("@effect-docket/redis-store") })

// claims of a task that were given at one time
const claims = new Map<string, Array<Pick<book.Claimed, "generation" | "key" | "token">>>()
const idOf = (task: string, attempt: number, startedAt: number) => `${task} ${attempt} ${startedAt}`

/** The claim that a body belongs to. The key of a step of a flow begins with that of its run. */
const claimOf = ({ attempt, key, startedAt, task }: Execution.CurrentExecution["Service"]) =>
  claims.get(idOf(task, attempt, DateTime.toEpochMillis(startedAt)))!
    .filter((claim) => key.startsWith(claim.key))
    .reduce((a, b) => a.key.length > b.key.length ? a : b)

const record: tasks.Record = (body, gate) =>
  Effect.flatMap(Execution.CurrentExecution, (execution) =>
    Effect.suspend(() => {
      const { generation, key, token } = claimOf(execution)
      write({ tag: "begin", at: now(), key, generation, token, gate })
      return Effect.ensuring(body, Effect.sync(() => write({ tag: "end", at: now(), token })))
    }))

const delayOf = (change: DocketStore.Change) => change._tag === "Retry" || change._tag === "Snooze" ? change.after : 0

const recorded = (session: DocketStore.WorkerSession): DocketStore.WorkerSession => ({
  ...session,
  turn: (request) =>
    Effect.suspend(() => {
      for (const { change, token } of request.settle) {
        write({ tag: "settle", at: now(), token, change: change._tag, after: delayOf(change) })
      }
      return Effect.tap(session.turn(request), ({ claimed, settled }) =>
        Effect.sync(() => {
          for (const [index, { token }] of request.settle.entries()) {
            write({ tag: "settled", at: now(), token, answer: settled[index]! })
          }
          for (const { attempt, due, generation, key, lost, startedAt, task, thread, token } of claimed) {
            const id = idOf(task, attempt, startedAt)
            claims.set(id, [...claims.get(id) ?? [], { key, generation, token }])
            const between = thread?.between === true
            write({ tag: "claim", at: now(), key, task, generation, token, attempt, lost, due, startedAt, between })
          }
        }))
    }),
  renew: (fences) =>
    Effect.suspend(() => {
      const asked = now()
      return Effect.tap(session.renew(fences), (answers) =>
        Effect.sync(() => {
          for (const [index, { token }] of fences.entries()) {
            if (answers[index] === "Renewed") write({ tag: "renewed", at: now(), asked, token })
          }
        }))
    })
})

const store = Layer.effect(
  DocketStore.DocketStore,
  DocketStore.DocketStore.useSync((store) =>
    DocketStore.DocketStore.of({
      docket: (options) =>
        Effect.map(store.docket(options), (docket) => ({
          ...docket,
          attach: (options) => Effect.map(docket.attach(options), recorded)
        }))
    })
  )
).pipe(Layer.provide(RedisStore.layer({ url })))

const logger = Logger.make<unknown, void>(({ logLevel, message }) => {
  process.stdout.write(`${logLevel}: ${(Array.isArray(message) ? message : [message]).map(String).join(" ")}\n`)
})

const work = Worker.layer(tasks.Works, {
  name,
  concurrency: Number(slots),
  lease: Number(lease),
  drainTimeout: "2 seconds",
  flows: [tasks.Parts]
})

const main = Layer.effectDiscard(Effect.sync(() => process.stdout.write("ready\n"))).pipe(
  Layer.provideMerge(work),
  Layer.provide(tasks.layer(record, () => existsSync(over))),
  Layer.provide(DocketEngine.layer({ name: docket })),
  Layer.provide(store),
  Layer.provide(Logger.layer([logger]))
)

// so that the judge sees when the machine did not let it run
setInterval(() => write({ tag: "awake", at: now() }), Number(lease) / 20).unref()

// the server may be away just now
const fiber = Effect.runFork(Effect.retry(Layer.launch(main), Schedule.spaced(200)))
process.once("SIGTERM", () => Effect.runFork(Fiber.interrupt(fiber)))
