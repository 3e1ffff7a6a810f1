/**
 * Reuse: an agenda is a value. Scatter it today, tomorrow, over an hour or a day; each time is a batch of its own.
 *
 * What makes two batches independent is the key: items without one get a fresh key each time. An item with a key of its
 * own exists once: while its run is pending, scattering it again finds it `existing` and leaves it where it is.
 */
import { Agenda, Task, TaskGroup } from "@effect-docket/dsl"
import { DocketTest } from "@effect-docket/runtime/testing"
import { Clock, Console, DateTime, Effect, Layer, Schema } from "effect"

class CleanTemp extends Task.make("CleanTemp") {}
class CompressLogs extends Task.make("CompressLogs") {}
class Backup extends Task.make("Backup", { payload: { database: Schema.String }, key: ["database"] }) {}
class Maintenance extends TaskGroup.make(CleanTemp, CompressLogs, Backup) {}

const say = (text: string) =>
  Effect.flatMap(Clock.currentTimeMillis, (now) => Console.log(`hour ${now / 3_600_000}: ${text}`))

const MaintenanceLive = Maintenance.toLayer({
  CleanTemp: () => say("clean"),
  CompressLogs: () => say("compress"),
  Backup: ({ database }) => say(`back up ${database}`)
})

// defined once, at the top of a module
const chores = Agenda.empty.pipe(
  Agenda.add(CleanTemp),
  Agenda.add(CompressLogs),
  Agenda.add(Backup, { database: "main" })
)

const program = Effect.gen(function*() {
  const tomorrow = DateTime.add(yield* DateTime.now, { days: 1 })
  yield* Agenda.scatter(chores, { over: "2 hours" })
  const again = yield* Agenda.scatter(chores, { start: tomorrow, over: "8 hours" })
  yield* Console.log(
    `the second time: ${again.scheduled.length} scheduled, existing: ${again.existing.map(({ key }) => key).join()}`
  )
  yield* DocketTest.drain(Maintenance)
})

await Effect.runPromise(Effect.provide(
  program,
  Layer.mergeAll(MaintenanceLive, Maintenance.client).pipe(Layer.provideMerge(DocketTest.layer))
))

/* prints
the second time: 2 scheduled, existing: Backup/main
hour 0: clean
hour 1: compress
hour 2: back up main
hour 24: clean
hour 28: compress
*/
