/**
 * Handlers that are watched: the ledger is told when a body begins, how it ends, and what it says of the next run.
 */
import { Execution, Perpetual, type Task } from "@effect-docket/dsl"
import * as Interpreter from "@effect-docket/dsl/Interpreter"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { type Claimed, isCurrent } from "./books.ts"
import { begin } from "./claims.ts"
import type { Ledger } from "./ledger.ts"
import { endOf } from "./programs.ts"
import type { Trace } from "./trace.ts"

/** The worker whose handlers are watched. */
interface Options {
  readonly ledger: Ledger
  readonly trace: Trace
  readonly tasks: ReadonlyMap<string, Task.Any>
  readonly worker: string
  readonly concurrency: number
  /** Slots of a lane, if each has its own. */
  readonly lanes: Readonly<Record<string, number>>
  readonly isStopping: () => boolean
}

/** Watches the handlers of tasks. */
export const watch = <R>(options: Options, services: Context.Context<R>): Context.Context<R> => {
  let watched = services
  for (const task of options.tasks.values()) {
    const key = Interpreter.handlerKey(task._tag)
    const { context, handler } = Context.getUnsafe(services, key)
    watched = Context.add(watched, key, {
      context,
      handler: (payload) => bodyOf(options, task, Effect.suspend(() => handler(payload)))
    }) as Context.Context<R> // the same services
  }
  return watched
}

const bodyOf = (
  options: Options,
  task: Task.Any,
  body: Effect.Effect<unknown, unknown>
): Effect.Effect<unknown, unknown> =>
  Effect.contextWith((context: Context.Context<never>) => {
    const services = context as Context.Context<Execution.CurrentExecution | Perpetual.Perpetual> // a worker adds them
    const { isStopping, ledger, trace, worker } = options
    const { attempt, key, startedAt } = Context.get(services, Execution.CurrentExecution)
    const claim = begin(ledger, worker, key, attempt, DateTime.toEpochMillis(startedAt))
    trace.add(worker, `runs ${task._tag} ${key} (${claim?.token}) attempt ${attempt}`)
    if (claim !== undefined) fits(options, task)
    const ended = Effect.onExit(body, (exit) =>
      Effect.sync(() => {
        if (claim !== undefined) claim.result = isStopping() && isStopped(task, claim, exit) ? "Stopped" : exit._tag
        trace.add(worker, `ends ${task._tag} ${key} (${claim?.token}): ${endOf(exit)}`)
      }))
    const perpetual = services.mapUnsafe.has(Perpetual.Perpetual.key)
      ? Context.get(services, Perpetual.Perpetual)
      : undefined
    return perpetual === undefined || claim === undefined
      ? ended
      : Effect.provideService(ended, Perpetual.Perpetual, heard(perpetual, claim))
  })

/** A worker runs no more at once than it has slots, in all and in the lane of a task. */
const fits = ({ concurrency, lanes, ledger, tasks, worker }: Options, task: Task.Any): void => {
  const { lane } = Interpreter.resolved(task)
  const running = (ledger.claimsOf.get(worker) ?? []).filter((claim) => {
    const run = ledger.find(claim)!
    // one that was stopped has no slot any more, though it may ignore that
    const mayBeStopped = claim.thread !== undefined || run.cancelling || isLimited(tasks.get(claim.task)!)
    return claim.starts > 0 && claim.result === undefined && isCurrent(run, claim) && !mayBeStopped
  })
  const inLane = running.filter((claim) => Interpreter.resolved(tasks.get(claim.task)!).lane === lane)
  ledger.check(running.length <= concurrency, () => `${worker} runs ${running.length} at once, of ${concurrency}`)
  ledger.check(
    inLane.length <= (lanes[lane] ?? Infinity),
    () => `${worker} runs ${inLane.length} at once in ${lane}, of ${lanes[lane]}`
  )
}

/** Whether a time may be up that ends its bodies. */
const isLimited = (task: Task.Any): boolean => Interpreter.resolved(task).timeout !== undefined

/** Whether the stop of its worker is all that may have interrupted it: no time was up. */
const isStopped = (task: Task.Any, { thread }: Claimed, exit: Exit.Exit<unknown, unknown>): boolean =>
  Exit.hasInterrupts(exit) && thread === undefined && !isLimited(task)

/** What a body says of the next run is heard. */
const heard = (perpetual: Perpetual.Perpetual["Service"], claim: Claimed): Perpetual.Perpetual["Service"] => {
  const notes = (said: Effect.Effect<void>, next: Claimed["next"]) =>
    Effect.andThen(
      said,
      Effect.sync(() => {
        if (claim.next !== "Ends") claim.next = next
      })
    )
  return {
    ...perpetual,
    cancel: notes(perpetual.cancel, "Ends"),
    after: (duration) => notes(perpetual.after(duration), "Chosen"),
    at: (time) => notes(perpetual.at(time), "Chosen")
  }
}
