/**
 * A set of tasks that is implemented, enqueued and run together.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { type Pipeable, pipeArguments } from "effect/Pipeable"
import type { Scope } from "effect/Scope"
import type { NoInfer } from "effect/Types"
import type * as Docket from "./Docket.ts"
import * as client from "./internal/client.ts"
import * as handler from "./internal/handler.ts"
import * as options_ from "./internal/options.ts"
import type * as Task from "./Task.ts"

/**
 * Type identifier of `TaskGroup`.
 *
 * @category type IDs
 * @since 0.1.0
 */
export const TypeId: TypeId = "~@effect-docket/dsl/TaskGroup"
/**
 * Type identifier of `TaskGroup`.
 *
 * @category type IDs
 * @since 0.1.0
 */
export type TypeId = "~@effect-docket/dsl/TaskGroup"

/**
 * A group of tasks.
 *
 * @category models
 * @since 0.1.0
 */
export interface TaskGroup<in out Tasks extends Task.Any> extends Pipeable {
  new(_: never): {}

  readonly [TypeId]: TypeId
  readonly tasks: ReadonlyMap<string, Tasks>

  /** Layer that grants `Docket.Enqueue` for exactly the tasks of this group. */
  readonly client: Layer.Layer<Docket.ToEnqueue<Tasks["_tag"]>, never, Docket.Docket>

  /** Adds tasks. */
  add<const Tasks2 extends ReadonlyArray<Task.Any>>(...tasks: Tasks2): TaskGroup<Tasks | Tasks2[number]>

  /** Adds the tasks of other groups. */
  merge<const Groups extends ReadonlyArray<Any>>(...groups: Groups): TaskGroup<Tasks | TasksOf<Groups[number]>>

  /** Removes tasks. */
  omit<const Tags extends ReadonlyArray<Tasks["_tag"]>>(
    ...tags: Tags
  ): TaskGroup<Exclude<Tasks, { readonly _tag: Tags[number] }>>

  /** Sets the default of an option for the tasks added so far. Options of the tasks themselves win. */
  annotateTasks<I, S>(key: Context.Key<I, S>, value: NoInfer<S>): TaskGroup<Tasks>

  /** Sets several defaults for the tasks added so far. */
  annotateTasksMerge<I>(annotations: Context.Context<I>): TaskGroup<Tasks>

  /**
   * Implements every task of the group. Services of the handlers become requirements of the layer, except those the
   * worker provides.
   */
  toLayer<Handlers extends HandlersFrom<Tasks>, EX = never, RX = never>(
    build: Handlers | Effect.Effect<Handlers, EX, RX>
  ): Layer.Layer<Task.ToHandler<Tasks["_tag"]>, EX, Exclude<RX, Scope> | HandlersServices<Tasks, Handlers>>

  /** Implements one task of the group. */
  toLayerHandler<const Tag extends Tasks["_tag"], R, EX = never, RX = never>(
    tag: Tag,
    build: Task.HandlerFn<Get<Tasks, Tag>, R> | Effect.Effect<Task.HandlerFn<Get<Tasks, Tag>, R>, EX, RX>
  ): Layer.Layer<
    Task.Handler<Tag>,
    EX,
    Exclude<RX, Scope> | Exclude<R, Task.HandlerServices | Get<Tasks, Tag>["~provides"]>
  >

  /** Checks a record of handlers against the group and returns it. */
  of<const Handlers extends HandlersFrom<Tasks>>(handlers: Handlers): Handlers
}

/**
 * The minimal bound for generic code over groups.
 *
 * @category models
 * @since 0.1.0
 */
export interface Any {
  readonly [TypeId]: TypeId
  readonly tasks: ReadonlyMap<string, Task.Any>
}

/**
 * The union of the tasks of a group.
 *
 * @category utility types
 * @since 0.1.0
 */
export type TasksOf<G extends Any> = G["tasks"] extends ReadonlyMap<string, infer T extends Task.Any> ? T : never

/**
 * The task of a group with this tag.
 *
 * @category utility types
 * @since 0.1.0
 */
export type Get<Tasks extends Task.Any, Tag extends string> = Extract<Tasks, { readonly _tag: Tag }>

/** The services the worker adds, by tag. */
type Provides<Tasks extends Task.Any> = { readonly [T in Tasks as T["_tag"]]: T["~provides"] }

/**
 * One handler per task.
 *
 * @category utility types
 * @since 0.1.0
 */
// oxlint-disable-next-line typescript/no-explicit-any -- a handler may need any services: `HandlersServices` collects them
export type HandlersFrom<Tasks extends Task.Any> = { readonly [T in Tasks as T["_tag"]]: Task.HandlerFn<T, any> }

/**
 * What handlers need from outside the worker.
 *
 * @category utility types
 * @since 0.1.0
 */
export type HandlersServices<Tasks extends Task.Any, Handlers> = {
  [Tag in keyof Handlers]: Handlers[Tag] extends (...args: never) => Effect.Effect<infer _A, infer _E, infer R>
    ? Exclude<R, Task.HandlerServices | (Tag extends keyof Provides<Tasks> ? Provides<Tasks>[Tag] : never)>
    : never
}[keyof Handlers]

/** A task with the surface that groups use; every task has it. */
interface Annotatable extends Task.Any {
  annotateMerge(annotations: Context.Context<never>): Task.Any
}

const Proto = {
  [TypeId]: TypeId,
  pipe() {
    return pipeArguments(this, arguments)
  },
  get client() {
    const self = this as unknown as Any // `makeProto` is the only user of the prototype
    return client.layer(self, [...self.tasks.values()])
  },
  add(this: Any, ...tasks: ReadonlyArray<Task.Any>) {
    return makeProto([...this.tasks.values(), ...tasks])
  },
  merge(this: Any, ...groups: ReadonlyArray<Any>) {
    return makeProto([this, ...groups].flatMap((group) => [...group.tasks.values()]))
  },
  omit(this: Any, ...tags: ReadonlyArray<string>) {
    return makeProto([...this.tasks.values()].filter((task) => !tags.includes(task._tag)))
  },
  annotateTasks(this: Any, key: Context.Key<never, unknown>, value: unknown) {
    return annotateTasks(this, Context.make(key, value))
  },
  annotateTasksMerge(this: Any, annotations: Context.Context<never>) {
    return annotateTasks(this, annotations)
  },
  toLayer(this: Any, build: unknown) {
    // `toLayer` of the type accepts nothing but a record of handlers, or an effect of one
    return Layer.effectContext(
      handler.handlers([...this.tasks.keys()], (built) => built as Readonly<Record<string, unknown>>, build)
    )
  },
  toLayerHandler(this: Any, tag: string, build: unknown) {
    return Layer.effectContext(handler.handlers([tag], (built) => ({ [tag]: built }), build))
  },
  of: <A>(handlers: A): A => handlers
}

// a default of the group gives way to what the task itself says
const annotateTasks = (self: Any, defaults: Context.Context<never>): Any =>
  makeProto(
    [...self.tasks.values()].map((task) =>
      (task as Annotatable).annotateMerge(Context.merge(defaults, task.annotations))
    )
  )

/** Whether two tasks differ in nothing but their options. */
const isSame = (a: Task.Any, b: Task.Any): boolean =>
  a.payloadSchema === b.payloadSchema && a.successSchema === b.successSchema && a.errorSchema === b.errorSchema &&
  a.progressSchema === b.progressSchema

const makeProto = (tasks: ReadonlyArray<Task.Any>): Any => {
  const byTag = new Map<string, Task.Any>()
  for (const task of tasks) {
    options_.resolved(task)
    const known = byTag.get(task._tag)
    if (known !== undefined && !isSame(known, task)) {
      options_.invalid(
        "TaskGroup",
        "tasks",
        `two different tasks have the tag "${task._tag}"; tags are unique in a group`
      )
    }
    byTag.set(task._tag, task)
  }
  function TaskGroup() {}
  Object.setPrototypeOf(TaskGroup, Proto)
  return Object.assign(TaskGroup, { tasks: byTag }) as unknown as Any // a function with the prototype of a group
}

/**
 * Creates a group of tasks.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <const Tasks extends ReadonlyArray<Task.Any>>(...tasks: Tasks): TaskGroup<Tasks[number]> =>
  makeProto(tasks) as TaskGroup<Tasks[number]> // `makeProto` keeps the tasks that it is given
