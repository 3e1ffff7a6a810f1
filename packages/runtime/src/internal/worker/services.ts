/**
 * The services that a worker adds to a handler: what it knows of its own run, progress, and control of the next run.
 */
import { DocketError, Execution, Perpetual, Progress, type Task } from "@effect-docket/dsl"
import * as Interpreter from "@effect-docket/dsl/Interpreter"
import type * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import type { StoredDocket } from "../../DocketStore.ts"
import type { Slot } from "./slot.ts"

/** What the services of a run need of its worker. */
export interface Env {
  readonly store: StoredDocket
  readonly clock: Clock.Clock
  /** The time of the worker, which goes on as before when somebody sets the clock of its machine. */
  readonly millis: () => number
}

class CurrentExecution {
  readonly #env: Env
  readonly #slot: Slot

  constructor(env: Env, slot: Slot) {
    this.#env = env
    this.#slot = slot
  }

  get docket(): string {
    return this.#env.store.name
  }
  get task(): string {
    return this.#slot.claim.task
  }
  get key(): string {
    const { key, thread } = this.#slot.claim
    // each step of a flow is something else to do
    return thread === undefined ? key : Interpreter.threads.stepKey(key, thread)
  }
  get flow(): Option.Option<{ readonly name: string; readonly key: string }> {
    const { key, thread } = this.#slot.claim
    return thread === undefined
      ? Option.none()
      : Option.some({ name: thread.flow, key: Interpreter.threads.tryRead(thread)?.flowKey ?? key })
  }
  get attempt(): number {
    return this.#slot.claim.attempt
  }
  get scheduledAt(): DateTime.Utc {
    return DateTime.makeUnsafe(this.#slot.claim.due)
  }
  get startedAt(): DateTime.Utc {
    return DateTime.makeUnsafe(this.#slot.claim.startedAt)
  }
  readonly extendTimeout = (duration: Duration.Input): Effect.Effect<void> =>
    Effect.sync(() => {
      const slot = this.#slot
      if (slot.deadline === Infinity) return
      slot.deadline = this.#env.millis() + Duration.toMillis(Duration.fromInputUnsafe(duration))
      slot.limit = slot.deadline - slot.startedAt
    })
}

const otherTask = (slot: Slot, task: Task.Any, call: string) =>
  Effect.die(new Error(`${call}: the task that runs is "${slot.claim.task}", not "${task._tag}"`))

const invalidPayload = (operation: string, task: Task.Any, message: string) =>
  new DocketError.DocketError({ operation, reason: new DocketError.InvalidPayload({ task: task._tag, message }) })

/** The text, if it is not larger than it may be. */
const within = (operation: string, limit: number, task: Task.Any, json: string) => {
  const option = `the bytes of a value (\`maxBytes\` of task "${task._tag}")`
  return Interpreter.isLonger(json, limit)
    ? Effect.fail(
      new DocketError.DocketError({ operation, reason: new DocketError.LimitExceeded({ limit, option }) })
    )
    : Effect.succeed(json)
}

class RunProgress {
  readonly #env: Env
  readonly #slot: Slot

  constructor(env: Env, slot: Slot) {
    this.#env = env
    this.#slot = slot
  }

  report<T extends Task.Any>(task: T, value: Task.Progress<T>): Effect.Effect<void> {
    const { claim, program } = this.#slot
    if (task._tag !== claim.task) return otherTask(this.#slot, task, "Progress.report")
    return program.codec.encodeProgress(value).pipe(
      Effect.mapError((message) =>
        invalidPayload("Progress.report", task, `the progress of task "${task._tag}" is invalid: ${message}`)
      ),
      Effect.flatMap((json) => within("Progress.report", program.options.maxBytes, task, json)),
      Effect.orDie,
      Effect.flatMap((json) => this.#env.store.progress(claim, json)),
      // best effort: a store that is away must not fail the handler
      Effect.catch((error) => Effect.logDebug(error.message)),
      Effect.asVoid
    )
  }
}

const perpetual = (slot: Slot): Perpetual.Perpetual["Service"] => ({
  cancel: Effect.sync(() => {
    slot.next.cancelled = true
  }),
  after: (after) => next(slot, { after }),
  at: (at) => next(slot, { at }),
  next: (task, payload) =>
    task._tag !== slot.claim.task
      ? otherTask(slot, task, "Perpetual.next")
      : slot.program.codec.encodePayload(payload).pipe(
        Effect.mapError((message) =>
          invalidPayload("Perpetual.next", task, `the next payload of task "${task._tag}" is invalid: ${message}`)
        ),
        Effect.tap(({ json }) => within("Perpetual.next", slot.program.options.maxBytes, task, json)),
        Effect.orDie,
        Effect.map(({ json, value }) => {
          slot.next.payload = json
          slot.next.gates = Interpreter.gatesOf(task._tag, slot.program.options.gates, value)
        })
      )
})

const next = (slot: Slot, when: { readonly at?: unknown; readonly after?: unknown }): Effect.Effect<void> =>
  Effect.suspend(() => {
    const due = Interpreter.due(when)
    if (due === undefined) {
      const message = "not a time or a finite duration"
      return Effect.die(
        new DocketError.DocketError({
          operation: "Perpetual",
          reason: new DocketError.InvalidOption({ option: "after" in when ? "after" : "at", message })
        })
      )
    }
    slot.next.due = due
    return Effect.void
  })

/** The services of a run, over those of its task. A handler finds them by key; their types end here. */
export const context = (env: Env, slot: Slot): Context.Context<never> => {
  const services = slot.program.context.pipe(
    Context.add(Execution.CurrentExecution, new CurrentExecution(env, slot)),
    Context.add(Progress.Progress, new RunProgress(env, slot)),
    Context.add(Scope.Scope, slot.scope)
  )
  return (slot.program.options.perpetual === undefined
    ? services
    : Context.add(services, Perpetual.Perpetual, perpetual(slot))) as Context.Context<never>
}
