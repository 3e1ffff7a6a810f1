/**
 * A dry run: the plan of a night's work as a table, or with `--svg` as a picture.
 *
 * `plan` fixes keys and times and writes nothing. What `resume` writes later is this plan and no other one.
 */
import { Agenda, Task } from "@effect-docket/dsl"
import { Console, Effect, Random, Schema } from "effect"

class Reindex extends Task.make("Reindex", { payload: { table: Schema.Int }, key: ["table"] }) {}
class Backup extends Task.make("Backup", { payload: { shard: Schema.Int }, key: ["shard"] }) {}
class Report extends Task.make("Report", { payload: { customer: Schema.Int }, key: ["customer"] }) {}

const range = (n: number) => Array.from({ length: n }, (_, i) => i + 1)

const night = Agenda.empty.pipe(
  Agenda.addAll(Reindex, range(40).map((table) => ({ table }))),
  Agenda.addAll(Backup, range(24).map((shard) => ({ shard }))),
  Agenda.addAll(Report, range(56).map((customer) => ({ customer })))
)

const program = Effect.gen(function*() {
  const plan = yield* Agenda.plan(night, {
    start: "2100-06-01T20:00:00Z",
    over: "12 hours",
    jitter: "45 minutes",
    window: { from: "22:00", to: "05:30" } // the rest of the period is closed
  })
  yield* Console.log(process.argv.includes("--svg") ? Agenda.svg(plan).trimEnd() : Agenda.table(plan, { rows: 6 }))
})

await Effect.runPromise(Random.withSeed(program, "a quiet night"))

/* prints
index        offset  time                      task     key
    0  +2:19:37.399  2100-06-01T22:19:37.399Z  Reindex  Reindex/1
    1  +2:36:21.210  2100-06-01T22:36:21.210Z  Reindex  Reindex/2
    2  +2:09:25.151  2100-06-01T22:09:25.151Z  Reindex  Reindex/3
    …  114 more
  117  +8:44:04.562  2100-06-02T04:44:04.562Z  Report   Report/54
  118  +8:52:30.974  2100-06-02T04:52:30.974Z  Report   Report/55
  119  +9:02:55.607  2100-06-02T05:02:55.607Z  Report   Report/56

120 items over 12h, from 2100-06-01T20:00:00Z to 2100-06-02T08:00:00Z
Reindex 40, Backup 24, Report 56; at most 9 in 15m, first at 2100-06-01T23:00:00Z
*/
