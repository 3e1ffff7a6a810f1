/**
 * A producer: `producer.ts FLEET NUMBER LIMIT SECONDS RATE`. It adds runs at a rate per second, or as fast as it can if that
 * is 0, until it has added LIMIT of them, or, if that is 0, for so many SECONDS.
 */
import { Docket, type DocketError } from "@effect-docket/dsl"
import { Clock, Effect, Schedule } from "effect"
import { runChild, tell, Work } from "./tasks.ts"

const [fleet = "", ...numbers] = process.argv.slice(2)
const [producer = 0, limit = 0, seconds = 0, rate = 0] = numbers.map(Number)

const portion = 200

// Every tenth is due a moment later, so that there is something scheduled, too.
const additions = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, index) => {
    const n = from + index
    return [Work, { fleet, producer, n }, { after: n % 10 === 0 ? 1000 : 0 }] as const
  })

const patience = Schedule.min([Schedule.exponential("100 millis"), Schedule.spaced("2 seconds")]).pipe(
  Schedule.jittered
)

/** Adding again with the same key is safe. */
const untilBack = <A, R>(effect: Effect.Effect<A, DocketError.DocketError, R>) =>
  Effect.retry(effect, { schedule: patience, while: ({ reason }) => reason._tag === "StoreUnavailable" })

const program = Effect.gen(function*() {
  const start = yield* Clock.currentTimeMillis
  let total = 0
  while (true) {
    const elapsed = ((yield* Clock.currentTimeMillis) - start) / 1000
    if (limit > 0 ? total >= limit : elapsed >= seconds) return
    const wanted = rate === 0 ? total + portion : Math.floor(elapsed * rate) + 1
    const to = Math.min(wanted, total + portion, limit === 0 ? Infinity : limit)
    if (to > total) {
      // in one piece: what is added is told
      yield* Effect.uninterruptible(
        Docket.addAll(additions(total, to)).pipe(untilBack, Effect.andThen(tell({ total: to, late: [] })))
      )
      total = to
    }
    if (rate > 0 && to === wanted) yield* Effect.sleep("50 millis")
  }
})

runChild(program)
