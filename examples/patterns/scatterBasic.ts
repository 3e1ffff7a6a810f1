/**
 * Scattering: a hundred items, evenly over fifty minutes, instead of all at once.
 *
 * Item i of n runs at start + i * over / (n - 1): the first at once, the last when the time is over. The finder of "find and
 * flood" is where this belongs when what is behind the tasks (an API, a database) cannot take a flood.
 */
import { Agenda, Task, TaskGroup } from "@effect-docket/dsl"
import { DocketTest } from "@effect-docket/runtime/testing"
import { Clock, Console, DateTime, Effect, Layer, Schema } from "effect"

class ProcessItem extends Task.make("ProcessItem", { payload: { itemId: Schema.Int } }) {}
class Items extends TaskGroup.make(ProcessItem) {}

const startedAt: Array<number> = []

const ItemsLive = Items.toLayer({
  ProcessItem: () =>
    Effect.map(Clock.currentTimeMillis, (now) => {
      startedAt.push(now)
    })
})

const program = Effect.gen(function*() {
  const batch = Agenda.fromIterable(ProcessItem, Array.from({ length: 100 }, (_, i) => ({ itemId: i + 1 })))
  // scatter writes the runs into the docket, each with its time, and is done; workers take it from there
  const report = yield* Agenda.scatter(batch, { over: "50 minutes" })
  yield* Console.log(`scheduled ${report.scheduled.length} runs`)
  for (const slot of report.scheduled.slice(0, 3)) {
    yield* Console.log(`  item ${slot.payload.itemId} at ${DateTime.formatIso(slot.at).slice(11, 23)}`)
  }
  const { succeeded } = yield* DocketTest.drain(Items)
  const most = Math.max(...startedAt.map((from) => startedAt.filter((at) => at >= from && at < from + 60_000).length))
  yield* Console.log(
    `${succeeded} ran, never more than ${most} in a minute; the last after ${startedAt.at(-1)! / 60_000} minutes`
  )
})

await Effect.runPromise(Effect.provide(
  program,
  Layer.mergeAll(ItemsLive, Items.client).pipe(Layer.provideMerge(DocketTest.layer))
))

/* prints
scheduled 100 runs
  item 1 at 00:00:00.000
  item 2 at 00:00:30.303
  item 3 at 00:01:00.606
100 ran, never more than 2 in a minute; the last after 50 minutes
*/
