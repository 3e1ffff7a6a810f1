/**
 * Scatters a list of tasks over a period of time, so that a flood of work becomes a steady stream.
 *
 * A batch is a list of tasks with payloads, a plan is a batch whose keys and times are fixed. `plan` is a dry run, which
 * `table` and `svg` show, `scatter` plans and writes, `resume` writes what is left of a plan after an outage. Nobody has to
 * guess what was scheduled: a scatter that fails says what became of each item, and carries the rest.
 *
 * Item `i` of `n` lies at `start + i * over / (n - 1)`, a single item at the middle; the formula is that of docket for
 * Python (chrisguidry/docket, `src/docket/agenda.py`). Times are whole milliseconds.
 *
 * It refuses periods without a length, windows that are never open, two items with one key where all or nothing is
 * asked for, and atomic scatters of more than 1,000 items. It moves no run that exists: a key that is taken keeps its
 * execution. Repeating tasks are the business of `Perpetual`.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import { dual } from "effect/Function"
import * as Layer from "effect/Layer"
import type { Pipeable } from "effect/Pipeable"
import * as Docket from "./Docket.ts"
import type * as DocketError from "./DocketError.ts"
import * as batch from "./internal/agendaBatch.ts"
import type { ScatterPartial, ScatterRejected } from "./internal/agendaErrors.ts"
import type { PlanOptions } from "./internal/agendaOptions.ts"
import * as scatter_ from "./internal/agendaScatter.ts"
import * as svg_ from "./internal/agendaSvg.ts"
import * as table_ from "./internal/agendaTable.ts"
import { draft } from "./internal/agendaWrite.ts"
import type * as Task from "./Task.ts"

/**
 * How a scatter fails.
 *
 * @category errors
 * @since 0.1.0
 */
export { ScatterPartial, ScatterRejected } from "./internal/agendaErrors.ts"
/**
 * Where the slots of a plan may lie.
 *
 * @category models
 * @since 0.1.0
 */
export type { PlanOptions, Window } from "./internal/agendaOptions.ts"

/**
 * Type identifier of `Batch`.
 *
 * @category type IDs
 * @since 0.1.0
 */
export const TypeId: TypeId = batch.TypeId
/**
 * Type identifier of `Batch`.
 *
 * @category type IDs
 * @since 0.1.0
 */
export type TypeId = "~@effect-docket/dsl/Agenda"

// ---------------------------------------------------------------------------------------------------------------------
// models
// ---------------------------------------------------------------------------------------------------------------------

/**
 * An immutable list of tasks with payloads. It can be scattered any number of times; each time is a batch of its own,
 * apart from keys that were given.
 *
 * @category models
 * @since 0.1.0
 */
export interface Batch<out Tasks extends Task.Any> extends Pipeable, Iterable<Item<Tasks>> {
  readonly [TypeId]: TypeId
  /** The tasks, for the compiler: a plan would not be recognised as a batch of the same ones. */
  readonly "~tasks": Tasks
  readonly length: number
}

/**
 * A task with its payload and its key, if one was given.
 *
 * @category models
 * @since 0.1.0
 */
export type Item<T extends Task.Any> = T extends Task.Any
  ? { readonly task: T; readonly payload: Task.PayloadInput<T>; readonly key: string | undefined }
  : never

/**
 * A place in time for one item; `payload` is what was added. Discriminate by `task`.
 *
 * `index` is the place of the item in the batch that was planned, also in what is left of a plan. `key` is empty where it
 * cannot be known, which is for invalid payloads without a key of their own.
 *
 * @category models
 * @since 0.1.0
 */
export type Slot<T extends Task.Any> = T extends Task.Any ? {
    readonly index: number
    readonly task: T["_tag"]
    readonly payload: Task.PayloadInput<T>
    readonly key: string
    readonly at: DateTime.Utc
  }
  : never

/**
 * A batch whose keys and times are fixed. `resume` writes it; `scatter` gives it new times and keeps the keys.
 *
 * @category models
 * @since 0.1.0
 */
export interface Plan<out Tasks extends Task.Any> extends Batch<Tasks> {
  readonly slots: ReadonlyArray<Slot<Tasks>>
}

/**
 * Options of `scatter`.
 *
 * @category models
 * @since 0.1.0
 */
export interface ScatterOptions<Atomic extends boolean> extends PlanOptions {
  /**
   * `true`: all or nothing (at most 1,000 items), failing with `ScatterRejected`. Default: as many as possible, failing
   * with `ScatterPartial`.
   */
  readonly atomic?: Atomic | undefined
}

/**
 * What happened to each slot of a scatter.
 *
 * @category models
 * @since 0.1.0
 */
export interface ScatterReport<out T extends Task.Any> {
  readonly scheduled: ReadonlyArray<Slot<T>>
  /** The key was taken; the known execution was kept. */
  readonly existing: ReadonlyArray<Slot<T>>
  /** A strike refused it. Of an atomic scatter there is none: it is rejected. */
  readonly struck: ReadonlyArray<Slot<T>>
  /** It came within the cooldown of its task, and was ignored. Of an atomic scatter there is none: it is rejected. */
  readonly limited: ReadonlyArray<Slot<T>>
}

/**
 * A slot that was not written, and why.
 *
 * @category models
 * @since 0.1.0
 */
export interface Failed<out T extends Task.Any> {
  readonly slot: Slot<T>
  readonly reason: DocketError.Reason
}

// ---------------------------------------------------------------------------------------------------------------------
// errors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Error of `scatter`.
 *
 * @category errors
 * @since 0.1.0
 */
export type ScatterError<T extends Task.Any, Atomic extends boolean> = Atomic extends true ? ScatterRejected<T>
  : ScatterPartial<T>

// ---------------------------------------------------------------------------------------------------------------------
// service
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Writes plans; `layer` builds it on a `Docket`.
 *
 * `write` uses the permissions in its scope (`group.client`): the options of the granting group, and its docket. Without
 * one it writes with the options of the task itself. A loose write fails with `ScatterPartial`, an atomic one with
 * `ScatterRejected`. `scatter` and `resume` are made of it; use it directly to write a plan atomically:
 *
 * `Agenda.Agenda.use((agenda) => agenda.write(plan, { atomic: true }))`
 *
 * @category services
 * @since 0.1.0
 */
export class Agenda extends Context.Service<Agenda, {
  readonly write: <T extends Task.Any>(plan: Plan<T>, options: { readonly atomic: boolean }) => Effect.Effect<
    ScatterReport<T>,
    ScatterPartial<T> | ScatterRejected<T>,
    Task.ServicesClient<T>
  >
}>()("@effect-docket/dsl/Agenda") {}

/**
 * The agenda of a docket.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Agenda, never, Docket.Docket> = Layer.effect(
  Agenda,
  Effect.map(Docket.Docket, scatter_.make)
)

// ---------------------------------------------------------------------------------------------------------------------
// batches
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Tests whether a value is a batch.
 *
 * @category guards
 * @since 0.1.0
 */
export const isBatch = (u: unknown): u is Batch<Task.Any> => batch.isBatch(u)

/**
 * A batch without items.
 *
 * @category constructors
 * @since 0.1.0
 */
export const empty: Batch<never> = batch.fromItems([])

/**
 * A batch with one item per payload.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromIterable = <T extends Task.Any>(task: T, payloads: Iterable<Task.PayloadInput<T>>): Batch<T> =>
  batch.fromItems(Array.from(payloads, (payload) => ({ task, payload, key: undefined })))

/**
 * Options of `add`.
 *
 * @category models
 * @since 0.1.0
 */
export interface AddOptions {
  /** Overrides the key of the task. */
  readonly key?: string | undefined
}

/**
 * Appends one item.
 *
 * @category combinators
 * @since 0.1.0
 */
export const add: {
  <T extends Task.Any>(
    task: T,
    ...args: Task.PayloadArgs<T, AddOptions>
  ): <Tasks extends Task.Any>(self: Batch<Tasks>) => Batch<Tasks | T>
  <Tasks extends Task.Any, T extends Task.Any>(
    self: Batch<Tasks>,
    task: T,
    ...args: Task.PayloadArgs<T, AddOptions>
  ): Batch<Tasks | T>
} = dual(
  (args) => isBatch(args[0]),
  (self: Batch<Task.Any>, task: Task.Any, payload?: unknown, options?: AddOptions): Batch<never> =>
    batch.concat(self, batch.fromItems([{ task, payload, key: options?.key }]))
)

/**
 * Appends one item per payload.
 *
 * @category combinators
 * @since 0.1.0
 */
export const addAll: {
  <T extends Task.Any>(
    task: T,
    payloads: Iterable<Task.PayloadInput<T>>
  ): <Tasks extends Task.Any>(self: Batch<Tasks>) => Batch<Tasks | T>
  <Tasks extends Task.Any, T extends Task.Any>(
    self: Batch<Tasks>,
    task: T,
    payloads: Iterable<Task.PayloadInput<T>>
  ): Batch<Tasks | T>
} = dual(
  3,
  (self: Batch<Task.Any>, task: Task.Any, payloads: Iterable<unknown>): Batch<never> =>
    batch.concat(self, fromIterable(task, payloads))
)

/**
 * Both batches, one after the other.
 *
 * @category combinators
 * @since 0.1.0
 */
export const concat: {
  <That extends Task.Any>(that: Batch<That>): <Tasks extends Task.Any>(self: Batch<Tasks>) => Batch<Tasks | That>
  <Tasks extends Task.Any, That extends Task.Any>(self: Batch<Tasks>, that: Batch<That>): Batch<Tasks | That>
} = dual(2, (self: Batch<Task.Any>, that: Batch<Task.Any>): Batch<never> => batch.concat(self, that))

// ---------------------------------------------------------------------------------------------------------------------
// plans
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Dry run: fixes keys and times without writing. Fails with `ScatterRejected` if a payload is invalid or two items have
 * the same key, and with `DocketError` (reason `InvalidOption`) if an option makes no sense, also for an empty batch.
 *
 * @category planning
 * @since 0.1.0
 */
export const plan: {
  (options: PlanOptions): <Tasks extends Task.Any>(
    self: Batch<Tasks>
  ) => Effect.Effect<Plan<Tasks>, ScatterRejected<Tasks> | DocketError.DocketError, Task.ServicesClient<Tasks>>
  <Tasks extends Task.Any>(
    self: Batch<Tasks>,
    options: PlanOptions
  ): Effect.Effect<Plan<Tasks>, ScatterRejected<Tasks> | DocketError.DocketError, Task.ServicesClient<Tasks>>
} = dual(
  2,
  (
    self: Batch<Task.Any>,
    options: PlanOptions
  ): Effect.Effect<Plan<never>, ScatterRejected<never> | DocketError.DocketError> =>
    Effect.flatMap(draft("Agenda.plan", self, options), (draft) => scatter_.strict(draft))
)

/**
 * Options of `table`.
 *
 * @category models
 * @since 0.1.0
 */
export interface TableOptions {
  /** Most items to show; of more, the first and the last ones are. Default 20. */
  readonly rows?: number | undefined
}

/**
 * A plan as a text table: index, offset from the start of the period, time in UTC, task and key of each item, and a sum
 * with the highest load. The same plan gives the same text.
 *
 * @category rendering
 * @since 0.1.0
 */
export const table = (plan: Plan<Task.Any>, options?: TableOptions): string => table_.table(plan, options?.rows ?? 20)

/**
 * A plan as an SVG picture that shows where the load falls: a bar per stretch of time, a mark per item, one colour per task,
 * and the closed hours of a window. It needs nothing else, is readable on light and dark pages, and does not grow with the
 * plan. The same plan gives the same text.
 *
 * @category rendering
 * @since 0.1.0
 */
export const svg = (plan: Plan<Task.Any>): string => svg_.svg(plan)

// ---------------------------------------------------------------------------------------------------------------------
// writing
// ---------------------------------------------------------------------------------------------------------------------

/**
 * The effect of a scatter.
 *
 * @category utility types
 * @since 0.1.0
 */
export type Scatter<T extends Task.Any, Atomic extends boolean> = Effect.Effect<
  ScatterReport<T>,
  ScatterError<T, Atomic>,
  Agenda | Docket.ToEnqueue<T["_tag"]> | Task.ServicesClient<T>
>

/**
 * Schedules the items, evenly over the period, in the order they were added.
 *
 * An option that makes no sense is a defect here (a `DocketError` with reason `InvalidOption`): the error of a scatter
 * says what became of the items, and nothing has become of them. Use `plan` and `resume` for options that come from
 * outside. Where two items have the same key, the second is `existing`; an atomic scatter is rejected. What is struck is
 * known before anything is written: it is `struck`, and not sent; an atomic scatter is rejected. What comes within a
 * cooldown likewise is `limited`.
 *
 * @category writing
 * @since 0.1.0
 */
export const scatter: {
  <const Atomic extends boolean = false>(
    options: ScatterOptions<Atomic>
  ): <Tasks extends Task.Any>(self: Batch<Tasks>) => Scatter<Tasks, Atomic>
  <Tasks extends Task.Any, const Atomic extends boolean = false>(
    self: Batch<Tasks>,
    options: ScatterOptions<Atomic>
  ): Scatter<Tasks, Atomic>
} = dual(
  2,
  <Atomic extends boolean>(self: Batch<Task.Any>, options: ScatterOptions<Atomic>): Scatter<never, Atomic> =>
    Agenda.use((agenda) => scatter_.scatter(agenda, self, options)).pipe(
      Effect.mapError((error) => error as ScatterError<never, Atomic>) // `atomic` is of type `Atomic`, and decides which
    )
)

/**
 * Writes a plan as it is: the same keys, the same times; a time already past becomes now. Slots written before count as
 * `existing`, also those whose answer was lost and whose run has ended since, as long as its outcome is kept.
 *
 * @category writing
 * @since 0.1.0
 */
export const resume = <Tasks extends Task.Any>(plan: Plan<Tasks>): Scatter<Tasks, false> =>
  Agenda.use((agenda) => scatter_.resume(agenda, plan as Plan<Task.Any> as Plan<never>)) // the result has the type of the plan again
