/**
 * Find and flood: a task that repeats itself looks for work, and adds one run per piece of it.
 *
 * The finder stays small and quick. The pieces are runs of their own: they are spread over all workers, are retried one by
 * one, and fail one by one. Each has the key of its order, so an order that the finder meets again while its run is pending
 * or running is not added twice.
 *
 * Time is simulated here: `DocketTest` moves the clock from one thing to the next instead of waiting.
 */
import { Docket, Task, TaskGroup } from "@effect-docket/dsl"
import { DocketTest } from "@effect-docket/runtime/testing"
import { Clock, Console, Effect, Layer, Schema } from "effect"

// `automatic`: workers start it, and start it again if it is ever missing
class FindOrders extends Task.make("FindOrders", { perpetual: { every: "1 minute", automatic: true } }) {}
class ShipOrder extends Task.make("ShipOrder", { payload: { orderId: Schema.Int }, key: ["orderId"] }) {}
class Orders extends TaskGroup.make(FindOrders, ShipOrder) {}

const pending = new Set([1, 2, 3]) // a table of a database, in real life

const say = (text: string) => Effect.flatMap(Clock.currentTimeMillis, (now) => Console.log(`${now / 1000} s: ${text}`))

const OrdersLive = Orders.toLayer({
  FindOrders: Effect.fnUntraced(function*() {
    const found = Array.from(pending)
    // all of them in one round trip; each handle says whether its run is new
    const runs = yield* Docket.addAll(found.map((orderId) => [ShipOrder, { orderId }] as const))
    const added = runs.filter((run) => run.disposition === "Added").length
    yield* say(`orders found: ${found.length}, runs added: ${added}`)
  }, Effect.orDie), // a store that is away is a defect of this run; the next one looks again
  ShipOrder: Effect.fnUntraced(function*({ orderId }) {
    yield* Effect.sleep("90 seconds")
    pending.delete(orderId)
    yield* say(`shipped order ${orderId}`)
    if (orderId === 1) pending.add(4)
  })
})

const program = DocketTest.runAtMost(Orders, { FindOrders: 4 })

await Effect.runPromise(Effect.provide(
  program,
  OrdersLive.pipe(Layer.provide(Orders.client), Layer.provideMerge(DocketTest.layer))
))

/* prints
0 s: orders found: 3, runs added: 3
60 s: orders found: 3, runs added: 0
90 s: shipped order 1
90 s: shipped order 2
90 s: shipped order 3
120 s: orders found: 1, runs added: 1
180 s: orders found: 1, runs added: 0
210 s: shipped order 4
*/
