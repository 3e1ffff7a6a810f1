/**
 * Failure: a scatter that fails says what became of each item, and carries the rest.
 *
 * Two things can go wrong: a payload does not fit its schema, which repeating does not change; or the store goes away in
 * the middle, and then `Agenda.resume(error.rest)` writes what is left, at the same times under the same keys. With
 * `atomic: true` it is all or nothing instead, for up to 1,000 items.
 */
import { Agenda, Docket, DocketError, Task, TaskGroup } from "@effect-docket/dsl"
import { DocketTest } from "@effect-docket/runtime/testing"
import { Console, Effect, Layer, Schema } from "effect"

class SendMail extends Task.make("SendMail", { payload: { to: Schema.NonEmptyString } }) {}
class Mails extends TaskGroup.make(SendMail) {}

let away = false

/** The docket, with a store that goes away after each write for as long as `away` is set: a server that restarts. */
const Flaky = Layer.effect(
  Docket.Docket,
  Docket.Docket.useSync((docket) => {
    let writes = 0
    const reason = new DocketError.StoreUnavailable({ cause: new Error("connection refused") })
    return Docket.Docket.of({
      ...docket,
      addEncoded: (additions, options) =>
        away && writes++ > 0
          ? Effect.fail(new DocketError.DocketError({ operation: "add", reason }))
          : docket.addEncoded(additions, options)
    })
  })
)

const program = Effect.gen(function*() {
  const oneIsBad = Agenda.fromIterable(SendMail, ["ada", "", "grace"].map((to) => ({ to })))

  // loose, which is the default: everything that can be scheduled is
  const partial = yield* Effect.flip(Agenda.scatter(oneIsBad, { over: "10 minutes" }))
  yield* Console.log(`${partial.scheduled.length} scheduled, item ${partial.failed[0]!.slot.index} not:`)
  yield* Console.log(`${partial.failed[0]!.reason._tag}, ${partial.rest.length} left to repeat`)

  // strict: nothing is
  const rejected = yield* Effect.flip(Agenda.scatter(oneIsBad, { over: "10 minutes", atomic: true }))
  yield* Console.log(`${rejected._tag}: item ${rejected.rejected[0]!.slot.index} stands in the way`)

  // an outage in the middle: items are written in chunks of 250
  const many = Agenda.fromIterable(SendMail, Array.from({ length: 600 }, (_, i) => ({ to: `user-${i}` })))
  away = true
  const outage = yield* Effect.flip(Agenda.scatter(many, { over: "1 hour" }))
  yield* Console.log(
    `${outage.scheduled.length} scheduled, ${outage.rest.length} left: ${outage.failed[0]!.reason._tag}`
  )
  away = false
  const report = yield* Agenda.resume(outage.rest)
  yield* Console.log(`resumed: ${report.scheduled.length} scheduled`)

  const { succeeded } = yield* DocketTest.drain(Mails)
  yield* Console.log(`${succeeded} mails sent`)
})

await Effect.runPromise(Effect.provide(
  program,
  Layer.mergeAll(Mails.toLayer({ SendMail: () => Effect.void }), Mails.client, Agenda.layer).pipe(
    Layer.provideMerge(Flaky),
    Layer.provideMerge(DocketTest.layer)
  )
))

/* prints
2 scheduled, item 1 not:
InvalidPayload, 0 left to repeat
ScatterRejected: item 1 stands in the way
250 scheduled, 350 left: StoreUnavailable
resumed: 350 scheduled
602 mails sent
*/
