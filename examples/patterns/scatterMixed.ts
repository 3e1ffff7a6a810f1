/**
 * Mixed tasks: one batch holds items of different tasks, in the order in which they were added.
 *
 * A batch is an immutable list; `add` and `addAll` give a longer one. The compiler checks each payload against its task, and
 * the slots of the report are a tagged union.
 */
import { Agenda, Task, TaskGroup } from "@effect-docket/dsl"
import { DocketTest } from "@effect-docket/runtime/testing"
import { Clock, Console, Effect, Layer, Schema } from "effect"

class CreateAccount extends Task.make("CreateAccount", { payload: { user: Schema.String } }) {}
class SendMail extends Task.make("SendMail", { payload: { user: Schema.String, template: Schema.String } }) {}
class UpdateMetrics extends Task.make("UpdateMetrics") {}
class Onboarding extends TaskGroup.make(CreateAccount, SendMail, UpdateMetrics) {}

const say = (text: string) =>
  Effect.flatMap(Clock.currentTimeMillis, (now) => Console.log(`${now / 60_000} min: ${text}`))

const OnboardingLive = Onboarding.toLayer({
  CreateAccount: ({ user }) => say(`create the account of ${user}`),
  SendMail: ({ template, user }) => say(`send "${template}" to ${user}`),
  UpdateMetrics: () => say("update the metrics")
})

const program = Effect.gen(function*() {
  const report = yield* Agenda.empty.pipe(
    Agenda.add(CreateAccount, { user: "ada" }),
    Agenda.addAll(SendMail, ["welcome", "first steps"].map((template) => ({ user: "ada", template }))),
    Agenda.add(UpdateMetrics),
    Agenda.scatter({ over: "30 minutes" })
  )
  for (const slot of report.scheduled) {
    // the task of a slot tells the type of its payload
    if (slot.task === "SendMail") yield* Console.log(`planned: ${slot.payload.template}`)
  }
  yield* DocketTest.drain(Onboarding)
})

await Effect.runPromise(Effect.provide(
  program,
  Layer.mergeAll(OnboardingLive, Onboarding.client).pipe(Layer.provideMerge(DocketTest.layer))
))

/* prints
planned: welcome
planned: first steps
0 min: create the account of ada
10 min: send "welcome" to ada
20 min: send "first steps" to ada
30 min: update the metrics
*/
