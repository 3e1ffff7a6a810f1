/**
 * A worker: `worker.ts FLEET NAME CONCURRENCY LEASE`. It works until it is told to stop, and tells ten times per second what
 * it has done.
 */
import { Execution } from "@effect-docket/dsl"
import { Worker } from "@effect-docket/runtime"
import { DateTime, Effect, Layer, Schedule } from "effect"
import { runChild, tell, Work, Works } from "./tasks.ts"

const [fleet, name = "", ...numbers] = process.argv.slice(2)
const [concurrency = 1, lease = 1] = numbers.map(Number)

let total = 0
let told = -1
let late: Array<number> = []

const WorksLive = Work.toLayer(Effect.fnUntraced(function*(payload) {
  const { attempt, scheduledAt, startedAt } = yield* Execution.CurrentExecution
  yield* Effect.sleep("10 millis")
  if (payload.fleet === fleet) { // or what an earlier one has left
    total++
    late.push(Math.max(0, DateTime.toEpochMillis(startedAt) - DateTime.toEpochMillis(scheduledAt)))
  }
  return { worker: name, attempt }
}))

const report = Effect.suspend(() => {
  if (total === told) return Effect.void
  const line = { total, late }
  told = total
  late = []
  return tell(line)
})

const program = Effect.repeat(report, Schedule.spaced("100 millis")).pipe(
  Effect.provide(
    Layer.provide(Worker.layer(Works, { name, concurrency, lease }), WorksLive)
  ),
  // what it did while it drained
  Effect.ensuring(report)
)

runChild(program)
