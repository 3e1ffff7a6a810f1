/**
 * `overlap: "allow"`: the ticks that come while a run of a chain is running.
 *
 * The run holds the key of the chain, so each of these ticks gets a run of its own, under the key of the chain with the
 * tick: `key@2026-01-01T00:15:00.000Z`. It is one run: nothing follows it. The chain goes on as always, with the successor
 * that is written with the outcome of the run that holds the key, so it survives what every chain survives.
 *
 * A tick has one run. It is added a moment before it comes, so that whoever adds it as well (the same worker, because a
 * reply was lost; another one, because a lease was) finds it waiting, and the successor of the chain is a tick after it. Only
 * a worker that was late adds it afterwards, if nothing is known of its key. A tick that came when its worker died, or while
 * the store was away for half a minute, was missed, like one for which no worker was up.
 */
import * as Interpreter from "@effect-docket/dsl/Interpreter"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as perpetuate from "./perpetuate.ts"
import type * as pipeline from "./pipeline.ts"
import type { Slot } from "./slot.ts"

const { during, patience } = Interpreter.recurrence
type Tick = Interpreter.recurrence.Tick

// How long before its tick a run is added, if ticks are not closer: enough for a reply to be lost, and for the next try.
const ahead = 1000

// A store that is away is asked again for a while.
const again = Schedule.spaced(Duration.millis(ahead / 4)).pipe(Schedule.upTo({ duration: Duration.seconds(30) }))

/** The ticks until then that nobody has taken care of; from now on they are. */
const take = (env: pipeline.Env, slot: Slot, until: number): ReadonlyArray<Tick> => {
  const recurrence = slot.program.options.perpetual! // only such tasks get here
  const last = perpetuate.running(slot)
  const ticks: Array<Tick> = []
  let tick = during(recurrence, last, Math.max(slot.ticked, until - patience))
  slot.ticked = Math.max(slot.ticked, until)
  if (!env.mayFollow(slot.claim.task)) return ticks
  while (tick !== undefined && tick.at <= until) {
    ticks.push(tick)
    tick = during(recurrence, last, tick.at)
  }
  return ticks
}

const additionOf = ({ claim, program: { options } }: Slot, payload: unknown, { at, due }: Tick) => ({
  task: claim.task,
  version: claim.version,
  key: `${claim.key}@${DateTime.formatIso(DateTime.makeUnsafe(at))}`,
  payload: claim.payload,
  due: { at: due },
  onExisting: "keep" as const,
  lane: options.lane,
  priority: typeof options.priority === "number" ? options.priority : options.priority(payload as never), // made for it
  retention: options.retention,
  ...options.gates && { gates: Interpreter.gatesOf(claim.task, options.gates, payload) },
  trace: claim.trace
})

/** Adds the runs of ticks, but for those that came too late and are known. */
const add = (
  env: pipeline.Env,
  slot: Slot,
  payload: unknown,
  ticks: ReadonlyArray<Tick>
): Effect.Effect<void> =>
  Effect.suspend(() =>
    Effect.filter(ticks.map((tick) => additionOf(slot, payload, tick)), ({ due, key }) =>
      due.at > env.storeNow()
        ? Effect.succeed(true)
        : Effect.map(env.store.get(key), (run) => run === undefined))
  ).pipe(
    Effect.flatMap((fresh) => fresh.length === 0 ? Effect.void : env.store.add(fresh, { atomic: false })),
    Effect.retry(again),
    Effect.catchCause((cause) =>
      Effect.annotateLogs(
        Effect.logError(`${slot.claim.task}: a tick that came while it was running has no run`, cause),
        { task: slot.claim.task, key: slot.claim.key }
      )
    ),
    Effect.asVoid
  )

/** Sleeps until shortly before the next tick, and adds its run; interrupted when the body has ended. */
const watch = (env: pipeline.Env, slot: Slot): Effect.Effect<void> =>
  Effect.suspend(() => {
    const tick = during(slot.program.options.perpetual!, perpetuate.running(slot), slot.ticked) // as above
    if (tick === undefined) return Effect.void
    // a body that is shorter than the time to the next tick is nothing to prepare for
    const lead = Math.min(ahead, Math.ceil((tick.at - slot.ticked) / 2))
    return Effect.sleep(Duration.millis(Math.max(0, tick.at - lead - env.storeNow()))).pipe(
      Effect.andThen(Effect.suspend(() => {
        if (slot.done || slot.stopped !== undefined || slot.replaced) return Effect.void
        // a body that ends does not wait for it, and does not interrupt it either
        return Effect.andThen(Effect.forkDetach(slot.flush!(Math.max(tick.at, env.storeNow()))), watch(env, slot))
      }))
    )
  })

/** Runs a body beside what adds the runs of the ticks that come meanwhile, if its task allows that. */
export const beside = <A, E>(
  env: pipeline.Env,
  slot: Slot,
  payload: unknown,
  body: Effect.Effect<A, E>
): Effect.Effect<A, E> => {
  if (slot.program.options.perpetual?.overlap !== "allow" || perpetuate.isExtra(slot)) return body
  slot.ticked = slot.claim.startedAt
  slot.flush = (until) => {
    const ticks = take(env, slot, until)
    return ticks.length === 0 ? Effect.void : add(env, slot, payload, ticks)
  }
  return Effect.flatMap(
    Effect.forkChild(watch(env, slot)),
    (watching) => Effect.ensuring(body, Effect.sync(() => watching.interruptUnsafe()))
  )
}
