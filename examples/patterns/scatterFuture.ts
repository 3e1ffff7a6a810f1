/**
 * A window in the future: tonight's work is planned now, and nothing of it runs before its time.
 *
 * `start` says when the period begins; `window` leaves out the hours in which nothing may run.
 */
import { Agenda, Task, TaskGroup } from "@effect-docket/dsl"
import { DocketTest } from "@effect-docket/runtime/testing"
import { Console, DateTime, Effect, Layer, Schema } from "effect"
import { TestClock } from "effect/testing"

class Reindex extends Task.make("Reindex", { payload: { table: Schema.String } }) {}
class Nightly extends TaskGroup.make(Reindex) {}

const clock = Effect.map(DateTime.now, (now) => DateTime.formatIso(now).slice(0, 16))

const NightlyLive = Nightly.toLayer({
  Reindex: ({ table }) => Effect.flatMap(clock, (now) => Console.log(`${now} reindex ${table}`))
})

const program = Effect.gen(function*() {
  yield* TestClock.setTime(Date.parse("2026-06-01T12:00:00Z")) // it is noon
  const batch = Agenda.fromIterable(Reindex, ["users", "orders", "invoices", "events"].map((table) => ({ table })))

  // two hours from now, over half an hour
  const start = DateTime.add(yield* DateTime.now, { hours: 2 })
  yield* Agenda.scatter(batch, { start, over: "30 minutes" })
  yield* DocketTest.drain(Nightly)

  // the same over two nights, from 22:00 to 02:00 only
  yield* Console.log("nights:")
  yield* Agenda.scatter(batch, { over: "2 days", window: { from: "22:00", to: "02:00" } })
  yield* DocketTest.drain(Nightly)
})

await Effect.runPromise(Effect.provide(
  program,
  Layer.mergeAll(NightlyLive, Nightly.client).pipe(Layer.provideMerge(DocketTest.layer))
))

/* prints
2026-06-01T14:00 reindex users
2026-06-01T14:10 reindex orders
2026-06-01T14:20 reindex invoices
2026-06-01T14:30 reindex events
nights:
2026-06-01T22:00 reindex users
2026-06-02T00:40 reindex orders
2026-06-02T23:20 reindex invoices
2026-06-03T02:00 reindex events
*/
