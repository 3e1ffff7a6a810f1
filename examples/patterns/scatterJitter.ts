/**
 * Jitter: each item moves by a random amount, so that several producers with the same rhythm do not meet.
 *
 * Ten shops scatter ten items each over the same ten minutes. Without jitter they beat as one, and every beat is ten runs
 * at one instant. With it they do not. No item leaves the period, and none piles up at its ends.
 */
import { Agenda, Task } from "@effect-docket/dsl"
import { Console, DateTime, Effect, Random, Schema } from "effect"

class Sync extends Task.make("Sync", { payload: { shop: Schema.Int, item: Schema.Int } }) {}

const start = "2100-01-01T00:00:00Z" // far from now: a time that has passed would become now
const shops = Array.from(
  { length: 10 },
  (_, shop) => Agenda.fromIterable(Sync, Array.from({ length: 10 }, (_, item) => ({ shop, item })))
)

/** The most runs that start in one second. */
const peak = (plans: ReadonlyArray<Agenda.Plan<typeof Sync>>) => {
  const seconds = plans.flatMap((plan) => plan.slots.map(({ at }) => Math.floor(DateTime.toEpochMillis(at) / 1000)))
  return Math.max(...Array.from(Map.groupBy(seconds, (second) => second).values(), (runs) => runs.length))
}

const program = Effect.gen(function*() {
  for (const jitter of ["0 seconds", "30 seconds"] as const) {
    // a plan is a dry run: nothing is written
    const plans = yield* Effect.forEach(shops, (shop) => Agenda.plan(shop, { start, over: "10 minutes", jitter }))
    const offsets = plans.flatMap((plan) => plan.slots.map(({ at }) => DateTime.toEpochMillis(at) - Date.parse(start)))
    const inside = offsets.filter((offset) => offset >= 0 && offset <= 600_000).length
    yield* Console.log(
      `jitter ${jitter}: at most ${peak(plans)} in a second, ${inside} of ${offsets.length} inside the period`
    )
  }
})

// chance is a service as well: the same seed gives the same plans
await Effect.runPromise(Random.withSeed(program, "ten shops"))

/* prints
jitter 0 seconds: at most 10 in a second, 100 of 100 inside the period
jitter 30 seconds: at most 2 in a second, 100 of 100 inside the period
*/
