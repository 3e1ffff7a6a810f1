/**
 * Adaptive: a task that repeats itself looks often when there is much to do, and rarely when there is nothing.
 *
 * `after` of `Perpetual` says when the next run starts, counted from now, and wins over the interval of the task. How long
 * the queue has been empty travels in the payload, so it survives restarts and may continue on another machine.
 */
import { Docket, Perpetual, Task, TaskGroup } from "@effect-docket/dsl"
import { DocketTest } from "@effect-docket/runtime/testing"
import { Clock, Console, Duration, Effect, Layer, Schema } from "effect"

class DrainInbox extends Task.make("DrainInbox", {
  payload: { idle: Schema.Int },
  perpetual: { every: "1 minute" }
}) {}
/** Somebody elsewhere, who writes messages. */
class Deliver extends Task.make("Deliver", { payload: { messages: Schema.Int } }) {}
class Inbox extends TaskGroup.make(DrainInbox, Deliver) {}

let size = 0
const page = 10

const say = (text: string) => Effect.flatMap(Clock.currentTimeMillis, (now) => Console.log(`${now / 1000} s: ${text}`))

const InboxLive = Inbox.toLayer({
  DrainInbox: Effect.fnUntraced(function*({ idle }) {
    const perpetual = yield* Perpetual.Perpetual
    const taken = Math.min(page, size)
    size -= taken
    // a full page: there is more. None: wait twice as long each time, up to ten minutes
    const wait = taken === page
      ? Duration.seconds(5)
      : taken > 0
      ? Duration.minutes(1)
      : Duration.min(Duration.minutes(2 ** (idle + 1)), Duration.minutes(10))
    yield* perpetual.next(DrainInbox, { idle: taken === 0 ? idle + 1 : 0 })
    yield* perpetual.after(wait)
    yield* say(`took ${taken}, next in ${Duration.format(wait)}`)
  }),
  Deliver: ({ messages }) => {
    size += messages
    return say(`${messages} messages arrive`)
  }
})

const program = Effect.gen(function*() {
  yield* Docket.addAll([
    [Deliver, { messages: 25 }],
    [DrainInbox, { idle: 0 }, { after: "1 second", key: "inbox" }],
    [Deliver, { messages: 12 }, { after: "20 minutes" }]
  ])
  yield* DocketTest.runAtMost(Inbox, { DrainInbox: 10 })
})

await Effect.runPromise(Effect.provide(
  program,
  Layer.mergeAll(InboxLive, Inbox.client).pipe(Layer.provideMerge(DocketTest.layer))
))

/* prints
0 s: 25 messages arrive
1 s: took 10, next in 5s
6 s: took 10, next in 5s
11 s: took 5, next in 1m
71 s: took 0, next in 2m
191 s: took 0, next in 4m
431 s: took 0, next in 8m
911 s: took 0, next in 10m
1200 s: 12 messages arrive
1511 s: took 10, next in 5s
1516 s: took 2, next in 1m
1576 s: took 0, next in 2m
*/
