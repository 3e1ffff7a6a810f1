/**
 * A single item lies in the middle of the period, two at its ends: no case needs code of its own.
 *
 * A batch comes from a query, and nobody knows how long it will be. Zero items are nothing to write; one item is not run
 * at once, which would be a flood again if every shop had one.
 */
import { Agenda, Task } from "@effect-docket/dsl"
import { Console, DateTime, Effect, Schema } from "effect"

class ProcessItem extends Task.make("ProcessItem", { payload: { itemId: Schema.Int } }) {}

const start = "2100-01-01T00:00:00Z" // far from now: a time that has passed would become now

const program = Effect.forEach([0, 1, 2, 3, 5], (count) =>
  Effect.gen(function*() {
    const batch = Agenda.fromIterable(ProcessItem, Array.from({ length: count }, (_, itemId) => ({ itemId })))
    const plan = yield* Agenda.plan(batch, { start, over: "10 minutes" })
    const minutes = plan.slots.map(({ at }) => (DateTime.toEpochMillis(at) - Date.parse(start)) / 60_000)
    yield* Console.log(`items: ${count}, at minutes: ${minutes.length === 0 ? "-" : minutes.join(", ")}`)
  }), { discard: true })

await Effect.runPromise(program)

/* prints
items: 0, at minutes: -
items: 1, at minutes: 5
items: 2, at minutes: 0, 10
items: 3, at minutes: 0, 5, 10
items: 5, at minutes: 0, 2.5, 5, 7.5, 10
*/
