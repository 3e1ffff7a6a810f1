/**
 * A further process that counts for the jobs of a store. Shown here: all that a worker needs, and how one finds out that
 * there is nothing left for it.
 */
import { Docket } from "@effect-docket/dsl"
import { Worker } from "@effect-docket/runtime"
import { type Duration, Effect, Layer, Schedule, Stream } from "effect"
import { stopAtOnce } from "../shared/program.ts"
import { fit, plural } from "../shared/text.ts"
import { Screen } from "./progress.ts"
import { Counting, countingLive, type Tally } from "./tasks.ts"

export interface Options {
  readonly concurrency: number
  readonly lease: Duration.Input
}

/** Ends when there was something in the docket and there is nothing any more, a mark of a job included. */
const untilOver = Effect.fnUntraced(function*(tally: Tally) {
  const screen = yield* Screen
  let seen = false
  let away = false
  // a small job may come and go between two looks
  const notice = Stream.runForEach(Docket.events, () =>
    Effect.sync(() => {
      seen = true
    }))
  yield* Effect.forkScoped(Effect.ignore(notice), { startImmediately: true })
  let told = false
  let shown = 0
  const look = Effect.gen(function*() {
    const counts = yield* Docket.counts
    if (away) yield* screen.line("the store is back")
    away = false
    const left = counts.reduce(
      (sum, { held, ready, running, scheduled }) => sum + held + ready + running + scheduled,
      0
    )
    seen ||= left > 0 || tally.counted > 0
    if (seen && !told) yield* screen.line("there is a job")
    told ||= seen
    const now = `${plural(tally.counted, "file")} counted`
    if (screen.live) yield* screen.draw(fit(`${now} · Ctrl-C ends`, (yield* screen.columns) - 1))
    else if (tally.counted > shown) yield* screen.line(now)
    shown = tally.counted
    return seen && left === 0
  })
  yield* look.pipe(
    Effect.catchTag("DocketError", (error) =>
      Effect.gen(function*() {
        if (!away) yield* screen.line(`${error.message}; trying again`)
        away = true
        return false
      })),
    Effect.repeat({ until: (over) => over, schedule: Schedule.spaced("500 millis") })
  )
}, Effect.scoped)

export const runWorker = Effect.fnUntraced(function*({ concurrency, lease }: Options) {
  const screen = yield* Screen
  const tally: Tally = { counted: 0 }
  const stop = Effect.andThen(stopAtOnce, screen.line("stopping (a second signal does not wait)"))
  yield* Effect.andThen(screen.line("waiting for a job"), untilOver(tally)).pipe(
    Effect.onInterrupt(() => stop),
    Effect.provide(Layer.provide(Worker.layer(Counting, { concurrency, lease }), countingLive(tally))),
    Effect.onInterrupt(() =>
      Effect.andThen(
        screen.line(`stopped: ${plural(tally.counted, "file")} counted here`),
        Effect.sync(() => {
          process.exitCode = 0
        })
      )
    )
  )
  yield* screen.line(`the job is over: ${plural(tally.counted, "file")} counted here`)
})
