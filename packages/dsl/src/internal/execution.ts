/**
 * The handle of an execution: a key with its generation, read through a docket and decoded with the schemas of its task.
 */
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import { pipeArguments } from "effect/Pipeable"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import type { Docket, Explanation } from "../Docket.ts"
import type { DocketError } from "../DocketError.ts"
import * as Execution from "../Execution.ts"
import type * as Task from "../Task.ts"
import * as TaskFailure from "../TaskFailure.ts"
import { codec } from "./codec.ts"
import type { EncodedAdded, EncodedEvent, EncodedOutcome } from "./wire.ts"

type AnyEvent = Execution.Event<unknown, unknown, unknown>

/** Why something is struck, and by whom if that is known. */
const struckBy = ({ author, reason }: { readonly author?: string | undefined; readonly reason: string }) => ({
  reason,
  ...author !== undefined && { author }
})

/** The outcome of a run that the store decided. */
export const decidedBy = (
  task: string,
  key: string,
  outcome: Exclude<EncodedOutcome, { readonly _tag: "Exit" }>
): Exit.Exit<never, TaskFailure.TaskFailure> => {
  const failure = (reason: TaskFailure.Reason) => Exit.fail(new TaskFailure.TaskFailure({ task, key, reason }))
  switch (outcome._tag) {
    case "Cancelled":
      return failure(new TaskFailure.Cancelled())
    case "Struck":
      return failure(new TaskFailure.Struck(struckBy(outcome)))
    case "Limited":
      return failure(new TaskFailure.Limited({ by: outcome.by }))
    case "Gone":
      return failure(new TaskFailure.Gone())
  }
}

/** Reads the outcome of a run. A text that does not decode is an outcome, too: `Undecodable`. */
export const decodeOutcome = (
  task: Task.Any,
  key: string,
  outcome: EncodedOutcome
): Effect.Effect<Exit.Exit<unknown, unknown>> => {
  if (outcome._tag !== "Exit") return Effect.succeed(decidedBy(task._tag, key, outcome))
  return Effect.match(codec(task).decodeExit(outcome.exit), {
    onSuccess: (exit) => exit,
    onFailure: (message) => {
      const reason = new TaskFailure.Undecodable({ message: `its result does not decode: ${message}` })
      return Exit.fail(new TaskFailure.TaskFailure({ task: task._tag, key, reason }))
    }
  })
}

/** The error of an exit that is not a success. */
export const errorOf = (exit: Exit.Exit<unknown, unknown>): unknown =>
  Option.getOrUndefined(Option.orElse(Exit.findErrorOption(exit), () => Exit.getCause(exit)))

/** Reads an event. A progress report that does not decode with the schema of this process is left out. */
export const decodeEvent = (task: Task.Any, key: string, event: EncodedEvent): Effect.Effect<AnyEvent | undefined> => {
  const at = DateTime.makeUnsafe(event.at)
  switch (event._tag) {
    case "Scheduled":
    case "Replaced":
      return Effect.succeed({ _tag: event._tag, at: DateTime.makeUnsafe(event.due) })
    case "Ready":
      return Effect.succeed({ _tag: event._tag, at })
    case "Started":
      return Effect.succeed({ _tag: event._tag, attempt: event.attempt, worker: event.worker, at })
    case "Progress":
      return Effect.match(codec(task).decodeProgress(event.value), {
        onSuccess: (value): AnyEvent | undefined => ({ _tag: event._tag, value, at }),
        onFailure: () => undefined
      })
    case "Step":
      return Effect.undefined
    case "Retrying":
      return Effect.map(decodeOutcome(task, key, { _tag: "Exit", exit: event.exit }), (exit) => ({
        _tag: event._tag,
        attempt: event.attempt,
        error: errorOf(exit),
        next: DateTime.makeUnsafe(event.next)
      }))
    case "Finished":
      return Effect.map(decodeOutcome(task, key, event.outcome), (exit) => ({ _tag: event._tag, exit, at }))
  }
}

/** Reads what is stored of an execution. */
export interface Reader {
  readonly tag: string
  /** Fails if there is more to read, and the store is away. */
  readonly outcome: (key: string, outcome: EncodedOutcome) => Effect.Effect<Exit.Exit<unknown, unknown>, DocketError>
  readonly event: (key: string, event: EncodedEvent) => Effect.Effect<AnyEvent | undefined, DocketError>
}

// whoever waits rides out interruptions of the store; the schedule has no end
const untilAvailable = Schedule.jittered(
  Schedule.min([Schedule.exponential("1 second"), Schedule.spaced("30 seconds")])
)

class Handle implements Execution.Execution<unknown, unknown, unknown> {
  readonly [Execution.TypeId]: Execution.TypeId = Execution.TypeId
  readonly key: string
  readonly disposition: Execution.Disposition
  readonly #docket: Docket["Service"]
  readonly #reader: Reader
  readonly #generation: number
  readonly #due: number
  // such an addition was never stored: its outcome is known, and under its key there may be somebody else
  readonly #refused: EncodedOutcome | undefined

  constructor(docket: Docket["Service"], reader: Reader, key: string, added: EncodedAdded) {
    this.#docket = docket
    this.#reader = reader
    this.key = added.key ?? key
    this.disposition = added.disposition
    this.#generation = added.generation
    this.#due = added.due
    this.#refused = added.disposition === "Struck"
      ? { _tag: "Struck", reason: added.reason ?? "", author: added.author }
      : added.disposition === "Limited"
      ? { _tag: "Limited", by: "cooldown" }
      : undefined
  }

  get task(): string {
    return this.#reader.tag
  }

  get scheduledAt(): DateTime.Utc {
    return DateTime.makeUnsafe(this.#due)
  }

  get await(): Effect.Effect<unknown, unknown> {
    const outcome = this.#refused
      ? Effect.succeed(this.#refused)
      : this.#docket.awaitOutcome(this.key, this.#generation)
    return Effect.flatMap(
      outcome,
      (outcome) => Effect.flatten(Effect.orDie(Effect.retry(this.#reader.outcome(this.key, outcome), untilAvailable)))
    )
  }

  get poll(): Effect.Effect<Option.Option<Exit.Exit<unknown, unknown>>, DocketError> {
    const outcome = this.#refused ? Effect.succeed(this.#refused) : this.#docket.outcome(this.key, this.#generation)
    return Effect.flatMap(
      outcome,
      (outcome) => outcome === undefined ? Effect.succeedNone : Effect.asSome(this.#reader.outcome(this.key, outcome))
    )
  }

  get cancel(): Effect.Effect<boolean, DocketError> {
    return this.#refused ? Effect.succeed(false) : this.#docket.cancel(this.key)
  }

  get explain(): Effect.Effect<Explanation, DocketError> {
    return this.#docket.explain(this.key)
  }

  get changes(): Stream.Stream<AnyEvent, DocketError> {
    const refused = this.#refused
    const events: Stream.Stream<EncodedEvent, DocketError> = refused
      ? Stream.fromEffect(Effect.map(Clock.currentTimeMillis, (at) => ({ _tag: "Finished", at, outcome: refused })))
      : this.#docket.changes(this.key, this.#generation)
    return events.pipe(
      Stream.mapEffect((event) => this.#reader.event(this.key, event)),
      Stream.filter((event) => event !== undefined)
    )
  }

  pipe() {
    return pipeArguments(this, arguments)
  }
}

/** The handle of what an addition reports. */
export const makeWith = (
  docket: Docket["Service"],
  reader: Reader,
  key: string,
  added: EncodedAdded
): Execution.Execution<unknown, unknown, unknown> => new Handle(docket, reader, key, added)

/** The handle of an execution of a task. */
export const make = <T extends Task.Any>(
  docket: Docket["Service"],
  task: T,
  key: string,
  added: EncodedAdded
): Execution.For<T> =>
  makeWith(
    docket,
    {
      tag: task._tag,
      outcome: (key, outcome) => decodeOutcome(task, key, outcome),
      event: (key, event) => decodeEvent(task, key, event)
    },
    key,
    added
  ) as unknown as Execution.For<T> // decoded with the schemas of T
