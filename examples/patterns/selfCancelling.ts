/**
 * Self-cancelling: a task that repeats itself until what it waits for has come, and then ends its own chain.
 *
 * `perpetual` schedules the next run when one has ended, under the same key. The handler may say otherwise: `cancel` makes
 * this run the last one, `next` gives the next one another payload. A chain that waits for something needs an end for the
 * case that it never comes, as well.
 */
import { Docket, Perpetual, Task, TaskGroup } from "@effect-docket/dsl"
import { DocketTest } from "@effect-docket/runtime/testing"
import { Clock, Console, Effect, Layer, Schema } from "effect"

class AwaitExport extends Task.make("AwaitExport", {
  payload: { name: Schema.String, polls: Schema.Int },
  key: ["name"],
  perpetual: { every: "5 minutes" }
}) {}
class Exports extends TaskGroup.make(AwaitExport) {}

const say = (text: string) =>
  Effect.flatMap(Clock.currentTimeMillis, (now) => Console.log(`${now / 60_000} min: ${text}`))

/** An API elsewhere: the export of the invoices is ready after a quarter of an hour, the other one never. */
const isReady = (name: string) =>
  Effect.map(Clock.currentTimeMillis, (now) => name === "invoices" && now >= 15 * 60_000)

const ExportsLive = Exports.toLayer({
  AwaitExport: Effect.fnUntraced(function*({ name, polls }) {
    const perpetual = yield* Perpetual.Perpetual
    if (yield* isReady(name)) {
      yield* say(`${name}: ready`)
      return yield* perpetual.cancel
    }
    if (polls === 6) {
      yield* say(`${name}: given up`)
      return yield* perpetual.cancel
    }
    yield* say(`${name}: not yet`)
    yield* perpetual.next(AwaitExport, { name, polls: polls + 1 })
  })
})

const program = Effect.gen(function*() {
  yield* Docket.add(AwaitExport, { name: "invoices", polls: 1 })
  yield* Docket.add(AwaitExport, { name: "events", polls: 1 }, { after: "1 minute" })
  // ends because both chains end: nothing is left to run
  const { succeeded } = yield* DocketTest.drain(Exports)
  yield* Console.log(`${succeeded} runs, nothing left`)
})

await Effect.runPromise(Effect.provide(
  program,
  Layer.mergeAll(ExportsLive, Exports.client).pipe(Layer.provideMerge(DocketTest.layer))
))

/* prints
0 min: invoices: not yet
1 min: events: not yet
5 min: invoices: not yet
6 min: events: not yet
10 min: invoices: not yet
11 min: events: not yet
15 min: invoices: ready
16 min: events: not yet
21 min: events: not yet
26 min: events: given up
10 runs, nothing left
*/
