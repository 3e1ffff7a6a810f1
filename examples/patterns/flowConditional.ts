/**
 * A conditional workflow: what a check of a user finds decides what happens, and a satisfied user is checked again in thirty
 * days.
 *
 * `again` runs the whole flow once more, later, under the same key. Between two checks nothing but one record waits, and it
 * may be looked at, or cancelled, as a user who has closed the account would want it: a cancel in between wins. Starting the
 * check again while it waits changes nothing.
 */
import { Docket, Flow, Task, TaskGroup } from "@effect-docket/dsl"
import { DocketTest } from "@effect-docket/runtime/testing"
import { Clock, Console, Effect, Layer, Schema } from "effect"

class ChurnRisk extends Schema.TaggedClass<ChurnRisk>()("ChurnRisk", { user: Schema.String }) {}
class Upsell extends Schema.TaggedClass<Upsell>()("Upsell", { user: Schema.String }) {}
class Satisfied extends Schema.TaggedClass<Satisfied>()("Satisfied", { user: Schema.String }) {}

class AnalyzeBehavior extends Task.make("AnalyzeBehavior", {
  payload: { user: Schema.String },
  success: Schema.Union([ChurnRisk, Upsell, Satisfied])
}) {}
class CreateRetentionCampaign extends Task.make("CreateRetentionCampaign", { payload: { user: Schema.String } }) {}
class CreateUpsellCampaign extends Task.make("CreateUpsellCampaign", { payload: { user: Schema.String } }) {}
class Behavior extends TaskGroup.make(AnalyzeBehavior, CreateRetentionCampaign, CreateUpsellCampaign) {}

class BehaviorCheck extends Flow.make(
  "BehaviorCheck",
  AnalyzeBehavior.pipe(Flow.match({ // to forget an outcome does not compile
    ChurnRisk: CreateRetentionCampaign,
    Upsell: CreateUpsellCampaign,
    Satisfied: Flow.again({ after: "30 days" })
  })),
  { key: ({ user }) => `behavior-check/${user}` }
) {}

const say = (text: string) =>
  Effect.flatMap(Clock.currentTimeMillis, (now) => Console.log(`day ${now / 86_400_000}: ${text}`))

/** What is known of users, by the day. */
const behavior = (user: string, day: number) => {
  if (user === "ada" && day >= 60) return new ChurnRisk({ user })
  return user === "grace" ? new Upsell({ user }) : new Satisfied({ user })
}

const BehaviorLive = Behavior.toLayer({
  AnalyzeBehavior: Effect.fnUntraced(function*({ user }) {
    const found = behavior(user, (yield* Clock.currentTimeMillis) / 86_400_000)
    yield* say(`${user}: ${found._tag}`)
    return found
  }),
  CreateRetentionCampaign: ({ user }) => say(`a letter for ${user}, who may leave`),
  CreateUpsellCampaign: ({ user }) => say(`an offer for ${user}`)
})

const program = Effect.gen(function*() {
  for (const user of ["ada", "grace", "alan"]) yield* Docket.start(BehaviorCheck, { user })
  yield* DocketTest.drain(Behavior, { flows: [BehaviorCheck], for: "40 days" })

  const known = yield* Docket.start(BehaviorCheck, { user: "ada" })
  const next = yield* known.explain
  yield* say(`${known.key}: ${known.disposition}, ${next._tag}`)
  yield* say(`alan closes the account: ${yield* Docket.cancel("behavior-check/alan")}`)
  yield* DocketTest.drain(Behavior, { flows: [BehaviorCheck] })
})

await Effect.runPromise(Effect.provide(
  program,
  Layer.mergeAll(BehaviorLive, Behavior.client).pipe(Layer.provideMerge(DocketTest.layer))
))

/* prints
day 0: ada: Satisfied
day 0: grace: Upsell
day 0: alan: Satisfied
day 0: an offer for grace
day 30: ada: Satisfied
day 30: alan: Satisfied
day 40: behavior-check/ada: Existing, NotDue
day 40: alan closes the account: true
day 60: ada: ChurnRisk
day 60: a letter for ada, who may leave
*/
