/**
 * Running a claim, as a pipeline of steps over one value: decode → admit → run → classify → settle → perpetuate → report.
 *
 * Whatever a handler does (throw, die, hang, ignore interruption, interrupt itself, return what its schema refuses), the
 * pipeline ends with one settlement, and the worker goes on. It runs uninterruptibly but for the handler itself.
 */
import { TaskFailure } from "@effect-docket/dsl"
import * as Interpreter from "@effect-docket/dsl/Interpreter"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import type { Change, ClaimedThread, Settlement } from "../../DocketStore.ts"
import * as flows from "../flow/interpret.ts"
import type { FlowProgram } from "../flow/program.ts"
import * as history from "./history.ts"
import * as overlap from "./overlap.ts"
import * as perpetuate from "./perpetuate.ts"
import * as retry from "./retry.ts"
import type * as services from "./services.ts"
import type { Slot } from "./slot.ts"

/** What the pipeline needs of its worker. */
export interface Env extends services.Env {
  /** The time of the store. */
  readonly storeNow: () => number
  /** The flow of a run, if this worker interprets it. */
  readonly flowOf: (thread: ClaimedThread) => FlowProgram | undefined
  /** Whether a perpetual run of this task may have a successor. */
  readonly mayFollow: (task: string) => boolean
  /**
   * Takes the settlement of a slot; `undefined` if the claim is not this worker's any more. `ended`: how the body ended, if
   * its run goes on.
   */
  readonly finish: (slot: Slot, settlement: Settlement | undefined, ended?: Change) => void
}

/** How a body ended. */
type Outcome =
  | { readonly _tag: "Success"; readonly value: unknown }
  /** A declared error or a `TaskFailure`. `final`: no policy is asked. */
  | { readonly _tag: "Failure"; readonly error: unknown; readonly final: boolean }
  | { readonly _tag: "Cancelled" }
  | { readonly _tag: "Expired" }
  | { readonly _tag: "Released" }
  | { readonly _tag: "Lost" }

const failed = (slot: Slot, reason: TaskFailure.Reason, final = false): Outcome => ({
  _tag: "Failure",
  error: new TaskFailure.TaskFailure({ task: slot.claim.task, key: slot.claim.key, reason }),
  final
})

const defect = (slot: Slot, defect: unknown): Outcome => failed(slot, new TaskFailure.Defect({ defect }))

/** The identity of a run, for what has to be chance and still the same in every process. */
const seedOf = (env: Env, { claim }: Slot): string => `${env.store.name}/${claim.generation}/${claim.key}`

// ---------------------------------------------------------------------------------------------------------------------
// admit
// ---------------------------------------------------------------------------------------------------------------------

const lostReason = ({ claim }: Slot) => new TaskFailure.Lost({ attempts: claim.lost })

// so many losses are counted, whatever a record says: no policy of use asks for more
const mostLosses = 1000

/** The failures of a run with the losses since the last of them, each as if it had failed when this claim began. */
const pastOf = (slot: Slot): Effect.Effect<string | undefined> => {
  const { claim } = slot
  if (claim.lost === 0) return Exit.succeed(claim.failures)
  const { error } = failed(slot, lostReason(slot)) as { readonly error: unknown } // a failure, as `failed` makes it
  return Effect.map(encodeFailure(slot, error), ({ exit }) => {
    let past = claim.failures
    for (let n = Math.min(claim.lost, mostLosses); n > 0; n--) {
      past = history.append(past, claim.startedAt, exit, begunOf(slot))
    }
    return past
  })
}

/**
 * Whether a run whose workers disappeared may be tried again: its policy for defects is asked as if each of them had
 * failed, so that a body that kills its process ends as a dead letter. A redelivery itself does not wait.
 */
const admit = (env: Env, slot: Slot): Effect.Effect<Outcome | undefined> => {
  if (slot.claim.lost === 0) return Exit.succeed(undefined)
  const { codec, metrics, policies } = slot.program
  metrics("redelivered", 1)
  return pastOf(slot).pipe(
    Effect.flatMap((past) => history.read(codec, past)),
    Effect.flatMap((failures) => retry.decide(policies, seedOf(env, slot), failures)),
    Effect.map((verdict) => verdict._tag === "Fail" ? failed(slot, lostReason(slot), true) : undefined)
  )
}

// ---------------------------------------------------------------------------------------------------------------------
// run
// ---------------------------------------------------------------------------------------------------------------------

const spanOptions = ({ claim }: Slot, docket: string): Tracer.SpanOptions => ({
  kind: "consumer",
  root: true,
  attributes: {
    "docket.name": docket,
    "docket.task": claim.task,
    "docket.key": claim.key,
    "docket.attempt": claim.attempt
  },
  ...(claim.trace === undefined ? {} : { links: [{ span: Tracer.externalSpan(claim.trace), attributes: {} }] })
})

type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

/** Runs the handler, and closes its scope. A finalizer that dies is logged; what the body did is done. */
const run = (env: Env, slot: Slot, payload: unknown, restore: Restore): Effect.Effect<Exit.Exit<unknown, unknown>> => {
  const { handler, traced } = slot.program
  const body = Effect.suspend(() => handler(payload))
  const spanned = traced ? Effect.withSpan(body, slot.claim.task, spanOptions(slot, env.store.name)) : body
  return Effect.flatMap(
    Effect.exit(restore(overlap.beside(env, slot, payload, spanned))),
    (exit) => closeScope(slot, exit)
  )
}

const closeScope = (slot: Slot, exit: Exit.Exit<unknown, unknown>): Effect.Effect<Exit.Exit<unknown, unknown>> =>
  slot.scope.state._tag === "Empty"
    ? Exit.succeed(exit)
    : Scope.close(slot.scope, exit).pipe(
      Effect.catchCause((cause) => report("Error", slot, "a finalizer died after the body had ended", cause)),
      Effect.as(exit)
    )

// ---------------------------------------------------------------------------------------------------------------------
// classify
// ---------------------------------------------------------------------------------------------------------------------

/** How a body ended: causes are kept apart. */
const classify = (slot: Slot, exit: Exit.Exit<unknown, unknown>): Outcome => {
  if (slot.stopped === "Lost") return { _tag: "Lost" }
  if (Exit.isSuccess(exit)) return { _tag: "Success", value: exit.value }
  const { cause } = exit
  if (slot.stopped !== undefined && Cause.hasInterrupts(cause)) {
    switch (slot.stopped) {
      case "Cancelled":
        return { _tag: "Cancelled" }
      case "Expired":
        return { _tag: "Expired" }
      case "Shutdown":
        return { _tag: "Released" }
      case "Timeout":
        return timedOut(slot)
    }
  }
  const die = cause.reasons.find(Cause.isDieReason)
  if (die !== undefined) return defect(slot, die.defect)
  const error = Cause.findErrorOption(cause)
  return Option.isSome(error)
    ? { _tag: "Failure", error: error.value, final: false }
    : defect(slot, new Error("the handler interrupted itself; nobody had asked for it"))
}

const timedOut = (slot: Slot): Outcome => failed(slot, new TaskFailure.Timeout({ limit: Duration.millis(slot.limit) }))

// ---------------------------------------------------------------------------------------------------------------------
// settle
// ---------------------------------------------------------------------------------------------------------------------

/** Whether a text has more bytes than its task allows. */
const isTooLarge = ({ program }: Slot, text: string, least = 0): boolean =>
  Interpreter.isLonger(text, Math.max(least, program.options.maxBytes))

const tooLarge = ({ program }: Slot): string =>
  `has more than the ${program.options.maxBytes} bytes that \`maxBytes\` of its task allows`

// an error may have that much in any case: it may be one of ours, with the longest of keys
const leastErrorBytes = 2 ** 16

const completed = (exit: string): Change => ({ _tag: "Completed", exit })

/** What is written for an outcome. A value or an error that its schema refuses is a defect of the handler. */
const settle = (env: Env, slot: Slot, outcome: Outcome): Effect.Effect<Change | undefined> => {
  const { codec } = slot.program
  switch (outcome._tag) {
    case "Lost":
      return Exit.succeed(undefined)
    case "Cancelled":
      return Exit.succeed(outcome)
    case "Expired":
      return Exit.succeed({ _tag: "HandOver", exit: undefined, expired: true })
    case "Released":
      // it has begun: whoever gets it next must not take it for one that was missed
      return Exit.succeed(
        slot.program.options.perpetual?.catchUp === "skip" ? { _tag: "Snooze", after: 0 } : outcome
      )
    case "Success": {
      const refuse = (message: string) => settle(env, slot, defect(slot, new Error(`its success ${message}`)))
      return Effect.matchEffect(codec.encodeSuccess(outcome.value), {
        onSuccess: (exit) => isTooLarge(slot, exit) ? refuse(tooLarge(slot)) : Exit.succeed(completed(exit)),
        onFailure: (message) => refuse(`does not fit the schema: ${message}`)
      })
    }
    case "Failure":
      return Effect.flatMap(encodeFailure(slot, outcome.error), ({ error, exit }) =>
        outcome.final
          ? Effect.succeed<Change>({ _tag: "Failed", exit })
          : Effect.flatMap(pastOf(slot), (past) => verdictOn(env, slot, past, { at: env.storeNow(), error }, exit)))
  }
}

/** What the policies of the task say of a failure. */
const verdictOn = (
  env: Env,
  slot: Slot,
  past: string | undefined,
  failure: history.Failure,
  exit: string
): Effect.Effect<Change> =>
  history.read(slot.program.codec, past).pipe(
    Effect.flatMap((failures) => retry.decide(slot.program.policies, seedOf(env, slot), [...failures, failure])),
    // a rule of the user that throws, or a schedule that dies
    Effect.catchCause((cause) =>
      Effect.as(report("Error", slot, "its retry policy died", cause), { _tag: "Fail" } as const)
    ),
    Effect.map((verdict): Change => {
      switch (verdict._tag) {
        case "Fail":
          return { _tag: "Failed", exit }
        case "Snooze":
          return verdict
        case "Retry":
          return {
            _tag: "Retry",
            after: verdict.after,
            exit,
            failures: history.append(past, failure.at, exit, begunOf(slot))
          }
      }
    })
  )

/** The text of an error. What does not encode is replaced by a defect that says so, and that by a text in any case. */
const encodeFailure = (
  slot: Slot,
  error: unknown
): Effect.Effect<{ readonly error: unknown; readonly exit: string }> => {
  const { codec } = slot.program
  const encode = (error: unknown) => Effect.map(codec.encodeFailure(error), (exit) => ({ error, exit }))
  const replacement = (text: string) => {
    const { error } = defect(slot, new Error(text)) as { readonly error: unknown } // a failure, as `defect` makes it
    return encode(error)
  }
  return encode(error).pipe(
    Effect.filterOrElse(
      ({ exit }) => !isTooLarge(slot, exit, leastErrorBytes),
      () => replacement(`its error ${tooLarge(slot)}`)
    ),
    Effect.catch((message) =>
      error instanceof TaskFailure.TaskFailure
        ? replacement(`a defect that cannot be stored: ${message}`)
        : replacement(`its error does not fit the schema: ${message}`)
    ),
    // a text encodes; if it does not, the pipeline's own guard settles the run
    Effect.orDie
  )
}

// ---------------------------------------------------------------------------------------------------------------------
// perpetuate
// ---------------------------------------------------------------------------------------------------------------------

/** What the history of a perpetual run has to keep. */
const begunOf = (slot: Slot): history.Begun | undefined =>
  slot.program.options.perpetual === undefined ? undefined : perpetuate.begunOf(slot)

const successorOf = (env: Env, slot: Slot, change: Change, now: number): ReturnType<typeof perpetuate.successor> =>
  env.mayFollow(slot.claim.task) ? perpetuate.successor(slot, change, now) : undefined

/** Moves a run that was missed to the tick that comes instead: it has not begun, so nothing is counted. */
const passOver = (env: Env, slot: Slot, due: number): Effect.Effect<void> => {
  const { generation, key, token } = slot.claim
  const after = Math.max(0, due - env.storeNow())
  env.finish(slot, { key, generation, token, change: { _tag: "Snooze", after }, successor: undefined })
  return report("Debug", slot, `missed its time, the next is in ${after} ms`)
}

/** Ends a run that a gate drops: it does not begin. One of a perpetual task is moved to its next tick. */
const drop = (env: Env, slot: Slot, by: "rateLimit"): Effect.Effect<void> => {
  const now = env.storeNow()
  const due = env.mayFollow(slot.claim.task) ? perpetuate.afterDrop(slot, now) : undefined
  if (due !== undefined) return passOver(env, slot, Math.max(due, now + 1))
  const { generation, key, token } = slot.claim
  env.finish(slot, { key, generation, token, change: { _tag: "Skipped", by }, successor: undefined })
  return report("Debug", slot, `dropped by \`${by}\``)
}

// ---------------------------------------------------------------------------------------------------------------------
// flows
// ---------------------------------------------------------------------------------------------------------------------

/** What happened to the step of a flow. A change that leaves it where it is, is nothing for the flow. */
const happenedTo = (change: Change, outcome: Outcome): flows.Happened | undefined => {
  switch (change._tag) {
    case "Completed":
      return outcome._tag === "Success"
        ? { _tag: "Ended", signal: "Value", value: outcome.value, exit: change.exit }
        : undefined
    case "Failed":
      return { _tag: "Ended", signal: "Failure", error: errorOf(outcome), exit: change.exit }
    case "Cancelled":
      return { _tag: "Cancelled" }
    case "HandOver":
      return { _tag: "Expired" }
    default:
      return undefined
  }
}

/** What is left to a worker that has the flow, or to a later try. */
const handOver = (change: Change): Change =>
  change._tag === "Completed" || change._tag === "Failed"
    ? { _tag: "HandOver", exit: change.exit, expired: false }
    : change

/** What is written of a flow when its step has ended like this. */
const goOn = (
  env: Env,
  slot: Slot,
  thread: ClaimedThread,
  change: Change,
  outcome: Outcome
): Effect.Effect<flows.Written> => {
  const flow = env.flowOf(thread)
  const happened = happenedTo(change, outcome)
  if (flow === undefined || happened === undefined) return Exit.succeed({ change: handOver(change) })
  return interpreted(slot, flows.interpret(flow, slot.claim, thread, happened, env.storeNow()), handOver(change))
}

/** An interpretation that cannot be made now is left to whoever comes later; one that can never be made ends the flow. */
const interpreted = (
  slot: Slot,
  written: ReturnType<typeof flows.interpret>,
  otherwise: Change
): Effect.Effect<flows.Written> => {
  // most members of a gather: it is known at once
  if (Exit.isExit(written) && Exit.isSuccess(written)) return written as Exit.Success<flows.Written> // an exit of it is one of its values
  return written.pipe(
    Effect.catch((error) => Effect.as(report("Warn", slot, `its flow waits: ${error.message}`), { change: otherwise })),
    Effect.catchCause((cause) => {
      const outcome = defect(slot, Cause.squash(cause)) as Extract<Outcome, { readonly _tag: "Failure" }> // as `defect` makes it
      return Effect.andThen(
        report("Error", slot, "its flow cannot be interpreted", cause),
        endFlow(slot, outcome.error)
      )
    })
  )
}

/** Ends a flow with a failure that no step of it is to blame for. */
const endFlow = (slot: Slot, error: unknown): Effect.Effect<flows.Written> =>
  Effect.map(encodeFailure(slot, error), ({ exit }) => ({
    change: { _tag: "Failed", exit: Interpreter.values.writeEnd({ from: { p: undefined, e: exit }, undo: [] }) }
  }))

// a flow whose store is away, for what it has to read, is looked at again then
const later = 1000

// a flow whose interpretation ends so many workers is at fault itself
const mostLost = 5

/** Interprets a run of a flow that waited between two steps. */
const between = (env: Env, slot: Slot, thread: ClaimedThread): Effect.Effect<void> => {
  const { generation, key, token } = slot.claim
  const stopped = thread.stopped?._tag
  const happened: flows.Happened = { _tag: stopped === "Cancelled" || stopped === "Expired" ? stopped : "Came" }
  const flow = env.flowOf(thread)
  const written = flow === undefined
    ? Effect.succeed<flows.Written>({ change: { _tag: "Released" } })
    : slot.claim.lost > mostLost
    ? endFlow(slot, errorOf(failed(slot, lostReason(slot))))
    : interpreted(slot, flows.interpret(flow, slot.claim, thread, happened, env.storeNow()), {
      _tag: "Snooze",
      after: later
    })
  return Effect.map(
    written,
    (written) => env.finish(slot, { key, generation, token, successor: undefined, ...written })
  )
}

/** Fails a step that does not begin: it is struck, or dropped by a gate. */
const refuse = (env: Env, slot: Slot, reason: TaskFailure.Reason): Effect.Effect<void> =>
  conclude(env, slot, failed(slot, reason, true))

// ---------------------------------------------------------------------------------------------------------------------
// report
// ---------------------------------------------------------------------------------------------------------------------

/** A log line about a run. */
export const report = (
  level: "Debug" | "Warn" | "Error",
  { claim }: Slot,
  message: string,
  ...details: ReadonlyArray<unknown>
) =>
  Effect.annotateLogs(Effect.logWithLevel(level)(`${claim.task}: ${message}`, ...details), {
    task: claim.task,
    key: claim.key,
    attempt: claim.attempt
  })

const measure = (env: Env, slot: Slot, change: Change): void => {
  const { metrics } = slot.program
  metrics("duration", (env.millis() - slot.startedAt) / 1000)
  if (change._tag === "Completed") metrics("completed", 1)
  else if (change._tag === "Failed") metrics("failed", 1)
  else if (change._tag === "Retry") metrics("retried", 1)
  else if (change._tag === "Cancelled") metrics("cancelled", 1)
}

const log = (slot: Slot, change: Change, outcome: Outcome): Effect.Effect<void> => {
  switch (change._tag) {
    case "Completed":
      return report("Debug", slot, "completed")
    case "Cancelled":
      return report("Debug", slot, "cancelled")
    case "Released":
    case "Skipped":
      return report("Debug", slot, change._tag.toLowerCase())
    case "HandOver":
      return report("Debug", slot, "a limit of its flow has passed")
    case "Continue":
      return Effect.void
    case "Snooze":
      return report("Debug", slot, `again in ${change.after} ms, attempt not counted`)
    case "Retry":
      return report("Debug", slot, `failed, again in ${change.after} ms`, errorOf(outcome))
    case "Failed":
      return report("Error", slot, "failed", errorOf(outcome))
  }
}

const errorOf = (outcome: Outcome): unknown => outcome._tag === "Failure" ? outcome.error : undefined

const conclude = (env: Env, slot: Slot, outcome: Outcome): Effect.Effect<void> =>
  Effect.flatMap(settle(env, slot, outcome), (change) => {
    // a timeout that did not wait for the body, or an end of the worker, was faster
    if (slot.done) return Effect.void
    if (change === undefined) {
      env.finish(slot, undefined)
      return report("Warn", slot, "the claim was lost; whatever the body did does not count")
    }
    const { generation, key, token } = slot.claim
    measure(env, slot, change)
    // a tick that has a run of its own is not that of the successor
    const now = Math.max(env.storeNow(), slot.ticked)
    const successor = successorOf(env, slot, change, now)
    const flushed = slot.flush === undefined || change._tag === "Cancelled"
      ? Effect.void
      : Effect.forkDetach(slot.flush(now))
    const { thread } = slot.claim
    if (thread !== undefined) {
      return Effect.flatMap(
        goOn(env, slot, thread, change, outcome),
        (written) => {
          if (slot.done) return Effect.void
          env.finish(slot, { key, generation, token, successor: undefined, ...written }, change)
          return slot.program.verbose || change._tag === "Failed" ? log(slot, change, outcome) : Effect.void
        }
      )
    }
    env.finish(slot, { key, generation, token, change, successor: successor === "Ends" ? undefined : successor })
    const told = slot.program.verbose || change._tag === "Failed" ? log(slot, change, outcome) : Effect.void
    const done = successor === "Ends"
      ? Effect.andThen(told, report("Error", slot, "it has no next time: it ends"))
      : told
    return slot.flush === undefined ? done : Effect.andThen(flushed, done)
  })

// ---------------------------------------------------------------------------------------------------------------------
// the pipeline
// ---------------------------------------------------------------------------------------------------------------------

/** Runs a claim and hands its settlement to the worker. It is run with the services of the run: `services.context`. */
export const execute = (env: Env, slot: Slot): Effect.Effect<void> =>
  Effect.uninterruptibleMask((restore) => {
    const { droppedBy, thread } = slot.claim
    if (thread?.between === true) return between(env, slot, thread)
    if (thread?.stopped?._tag === "Struck") {
      const { _tag: _, ...by } = thread.stopped
      return refuse(env, slot, new TaskFailure.Struck(by as { readonly reason: string })) // without an author that is not there
    }
    if (droppedBy !== undefined) {
      return thread === undefined
        ? drop(env, slot, droppedBy)
        : refuse(env, slot, new TaskFailure.Limited({ by: droppedBy }))
    }
    const due = perpetuate.missed(slot)
    if (due !== undefined) return passOver(env, slot, due)
    return Effect.matchEffect(slot.program.codec.decodePayload(slot.claim.payload, slot.claim.version), {
      onFailure: (message) =>
        conclude(
          env,
          slot,
          failed(slot, new TaskFailure.Undecodable({ message: `its payload does not decode: ${message}` }), true)
        ),
      onSuccess: (payload) =>
        Effect.flatMap(admit(env, slot), (refused) =>
          refused !== undefined
            ? conclude(env, slot, refused)
            : Effect.flatMap(run(env, slot, payload, restore), (exit) => conclude(env, slot, classify(slot, exit))))
    })
  }).pipe(
    // nothing above fails; if it does it is a bug, and even then the run is settled
    Effect.catchCause((cause) =>
      Effect.suspend(() => slot.done ? Effect.void : conclude(env, slot, defect(slot, Cause.squash(cause))))
    )
  )

/**
 * Settles a slot whose fiber ended without it. A body that yields what is no effect (a promise, nothing at all) stops its
 * fiber where it stands: no step of the pipeline comes after it.
 */
export const collapse = (env: Env, slot: Slot, exit: Exit.Exit<unknown, unknown>): Effect.Effect<void> =>
  Effect.flatMap(closeScope(slot, exit), () => slot.done ? Effect.void : conclude(env, slot, classify(slot, exit)))

/**
 * Settles a slot whose body does not end although it was asked to: by a timeout, or when the worker stops. The body is
 * left to itself.
 */
export const abandon = (env: Env, slot: Slot): Effect.Effect<void> =>
  Effect.suspend(() => {
    if (slot.done) return Effect.void
    // it may be the timer that does this, and a settlement ends the timer
    slot.timer = undefined
    const outcome: Outcome = slot.stopped === "Timeout"
      ? timedOut(slot)
      : slot.stopped === "Expired"
      ? { _tag: "Expired" }
      : slot.stopped === "Lost"
      ? { _tag: "Lost" }
      : { _tag: "Released" }
    return Effect.andThen(
      report("Error", slot, `the body ignores interruption (${slot.stopped}); the run is settled without it`),
      conclude(env, slot, outcome)
    )
  })
