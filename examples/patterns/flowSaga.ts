/**
 * An order as a saga: reserve, charge, ship. There is no transaction over the stock, the bank and the carrier, so each step
 * says what takes it back; when a later one fails, what has succeeded is undone, the newest first.
 *
 * The step that failed is not undone: it has done nothing, or has cleaned up itself. A compensation is a run like any other,
 * and is retried as its task says; one that fails for good is a dead letter, which somebody has to look at, and keeps no
 * other one from running. The error of the flow is that of the step.
 *
 * A failure that has a remedy is caught, and then nothing is undone: here another carrier.
 */
import { Docket, Execution, Flow, Task, TaskGroup } from "@effect-docket/dsl"
import { DocketTest } from "@effect-docket/runtime/testing"
import { Console, Effect, Layer, Logger, Option, Schema } from "effect"

class OutOfStock extends Schema.TaggedError<OutOfStock>()("OutOfStock", { sku: Schema.String }) {}
class Declined extends Schema.TaggedError<Declined>()("Declined", { order: Schema.String }) {}
class NoCarrier extends Schema.TaggedError<NoCarrier>()("NoCarrier", { order: Schema.String }) {}

class Reserve extends Task.make("Reserve", {
  payload: { order: Schema.String, sku: Schema.String },
  success: Schema.Struct({ order: Schema.String, reservation: Schema.String }),
  error: OutOfStock
}) {}
class Release extends Task.make("Release", { payload: { reservation: Schema.String } }) {}
class Charge extends Task.make("Charge", {
  payload: { order: Schema.String },
  success: Schema.Struct({ order: Schema.String, charge: Schema.String }),
  error: Declined
}) {}
class Refund extends Task.make("Refund", { payload: { charge: Schema.String } }) {}
class Ship extends Task.make("Ship", { payload: { order: Schema.String }, success: Schema.String, error: NoCarrier }) {}
class ShipSlowly extends Task.make("ShipSlowly", {
  payload: { order: Schema.String },
  success: Schema.String,
  error: OutOfStock
}) {}
class Shop extends TaskGroup.make(Reserve, Release, Charge, Refund, Ship, ShipSlowly) {}

class Checkout extends Flow.make(
  "Checkout",
  Reserve.pipe(
    Flow.compensate(Release),
    Flow.andThen(Charge),
    Flow.compensate(Refund, ({ charge }) => ({ charge })),
    Flow.andThen(Ship),
    Flow.catchTag("NoCarrier", ShipSlowly),
    Flow.deadline("2 days") // its failure is undone like any other
  ),
  { key: ({ order }) => `checkout/${order}` }
) {}

const ShopLive = Shop.toLayer({
  Reserve: ({ order, sku }) => Effect.succeed({ order, reservation: `${sku} for ${order}` }),
  Release: ({ reservation }) => Console.log(`  released: ${reservation}`),
  Charge: Effect.fnUntraced(function*({ order }) {
    if (order === "o-2") return yield* new Declined({ order })
    // the same in each attempt of this step: the bank charges once, however often it is asked
    const { key } = yield* Execution.CurrentExecution
    return { order, charge: `charge ${key}` }
  }),
  Refund: ({ charge }) => Console.log(`  refunded: ${charge}`),
  Ship: ({ order }) => order === "o-1" ? Effect.succeed("by air") : Effect.fail(new NoCarrier({ order })),
  ShipSlowly: Effect.fnUntraced(function*({ order }) {
    const flow = Option.getOrThrow((yield* Execution.CurrentExecution).flow) // a handler may ask what it is a part of
    if (order === "o-4") return yield* new OutOfStock({ sku: `the last ship of ${flow.key}` })
    return "by sea"
  })
})

const program = Effect.gen(function*() {
  for (const order of ["o-1", "o-2", "o-3", "o-4"]) {
    yield* Console.log(order)
    const run = yield* Docket.start(Checkout, { order, sku: "mug" })
    yield* DocketTest.drain(Shop, { flows: [Checkout] })
    yield* Effect.matchEffect(run.await, { // it ends when all is undone
      onSuccess: (how) => Console.log(`  shipped ${how}`),
      onFailure: (error) => Console.log(`  failed: ${error._tag}`)
    })
  }
})

await Effect.runPromise(Effect.provide(
  program,
  Layer.mergeAll(ShopLive, Shop.client).pipe(
    Layer.provideMerge(DocketTest.layer),
    Layer.provideMerge(Logger.layer([]))
  )
))

/* prints
o-1
  shipped by air
o-2
  released: mug for o-2
  failed: Declined
o-3
  shipped by sea
o-4
  refunded: charge checkout/o-4/2/0
  released: mug for o-4
  failed: OutOfStock
*/
