/**
 * What `Docket.Enqueue<Tag>` stands for: a docket, and the task with the options of the group that granted it.
 *
 * A producer knows a task by its class; the defaults that a group gave it (its lane, its retention) reach the producer
 * through here.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Result from "effect/Result"
import * as Docket from "../Docket.ts"
import { DocketError, InvalidOption, InvalidPayload, LimitExceeded, type Reason } from "../DocketError.ts"
import type * as Task from "../Task.ts"
import { type Codec, codec } from "./codec.ts"
import { gatesAgain, gatesOf, textsOf } from "./gates.ts"
import { complaintOf, isLonger, isTooLong, makeGenerator, maxKeyBytes } from "./key.ts"
import * as options from "./options.ts"

/** The permission to add runs of a task. */
export interface Client {
  readonly docket: Docket.Docket["Service"]
  readonly task: Task.Any
}

const keys = new Map<string, Context.Key<never, Client>>()

/** The service key of the permission for a tag. */
export const key = <const Tag extends string>(tag: Tag): Context.Key<Docket.Enqueue<Tag>, Client> => {
  let key = keys.get(tag)
  if (key === undefined) keys.set(tag, key = Context.Service<never, Client>(`@effect-docket/dsl/Docket/Enqueue/${tag}`))
  return key as Context.Key<Docket.Enqueue<Tag>, Client> // its identifier is a phantom
}

const layers = new WeakMap<object, Layer.Layer<never, never, Docket.Docket>>()

/** Layer that grants the tasks of `owner`; the same layer each time, so that it is built once. */
export const layer = (owner: object, tasks: ReadonlyArray<Task.Any>): Layer.Layer<never, never, Docket.Docket> => {
  let layer = layers.get(owner)
  if (layer === undefined) {
    layer = Layer.effectContext(Effect.map(Docket.Docket, (docket) => {
      let context = Context.empty()
      for (const task of tasks) {
        context = Context.add(context, key(task._tag), { docket, task }) as Context.Context<never> // keyed by tag
      }
      return context
    }))
    layers.set(owner, layer)
  }
  return layer
}

/** What is needed to add runs of a task through a client. */
interface Prepared extends options.Resolved {
  readonly codec: Codec
}

const prepared = new WeakMap<Task.Any, WeakMap<Task.Any, Prepared>>()

/** The options of `task` over those of the group that granted it. */
export const prepare = (client: { readonly task: Task.Any }, task: Task.Any): Prepared => {
  let byTask = prepared.get(client.task)
  if (byTask === undefined) prepared.set(client.task, byTask = new WeakMap())
  let value = byTask.get(task)
  if (value === undefined) {
    const annotations = Context.merge(client.task.annotations, task.annotations)
    value = {
      ...options.resolved(Object.assign(Object.create(task) as Task.Any, { annotations })), // `task` with other annotations
      codec: codec(task)
    }
    byTask.set(task, value)
  }
  return value
}

const generators = new WeakMap<object, ReturnType<typeof makeGenerator>>()

const generatorOf = (docket: object) => {
  let generator = generators.get(docket)
  if (generator === undefined) generators.set(docket, generator = makeGenerator())
  return generator
}

/** A random key. */
export const generate = (
  docket: object,
  prefix: string,
  fiber: Fiber.Fiber<unknown, unknown>,
  madeAt: number = fiber.getRef(Clock.Clock).currentTimeMillisUnsafe()
): string => generatorOf(docket)(prefix, madeAt, fiber.getRef(Random.Random))

/** When to run, as producers say it. */
export interface When {
  readonly at?: unknown
  readonly after?: unknown
}

// About 130,000 years: with it, the time that it leads to is still one that a date can hold.
const longest = 4e15

/** A time given by a producer; the clock of the store has the last word, so a delay stays a delay. */
export const due = (when: When | undefined): Docket.Due | undefined => {
  if (when?.at !== undefined) {
    const at = DateTime.make(when.at as DateTime.DateTime.Input) // the types of the options say so; a bad value gives none
    return Option.isSome(at) ? { at: DateTime.toEpochMillis(at.value) } : undefined
  }
  if (when?.after === undefined) return { after: 0 }
  const after = Duration.fromInput(when.after as Duration.Input) // as above
  if (Option.isNone(after)) return undefined
  const millis = Duration.toMillis(after.value)
  return millis <= longest ? { after: Math.max(0, millis) } : undefined
}

/** The current span, if a tracer of the application records it. */
export const traceOf = ({ cache: { span, tracer } }: Fiber.Fiber<unknown, unknown>): Docket.Trace | undefined =>
  span === undefined || tracer === undefined
    ? undefined
    : { traceId: span.traceId, spanId: span.spanId, sampled: span.sampled }

const fail = (operation: string, reason: Reason) => Exit.fail(new DocketError({ operation, reason }))

/** What a producer may say beside the payload. */
type Given = When & {
  readonly key?: string | undefined
  readonly onExisting?: Docket.EncodedAddition["onExisting"] | undefined
}

/** Whoever may add a task. Of the docket only its identity matters here. */
interface Adder {
  readonly docket: object
  readonly task: Task.Any
  /** The time of random keys. Default: now. */
  readonly madeAt?: number | undefined
}

/** What is wrong with what the functions of a task gave: they are the only unchecked part of an addition. */
const complaint = (
  { gates, key, priority }: {
    readonly gates?: Docket.EncodedGates | undefined
    readonly key: unknown
    readonly priority: unknown
  }
) => {
  const wrong = complaintOf(key)
  if (wrong !== undefined) return { option: "key", message: wrong }
  const bad = gates && textsOf(gates).map(complaintOf).find((wrong) => wrong !== undefined)
  if (bad !== undefined) return { option: "key", message: `${bad} (of a gate)` }
  return Number.isSafeInteger(priority)
    ? undefined
    : { option: "priority", message: `a priority has to be an integer, it is ${String(priority)}` }
}

const isGateTooLong = (gates: Docket.EncodedGates | undefined) => gates !== undefined && textsOf(gates).some(isTooLong)

/** The addition of an encoded payload: its key and its priority are computed, and checked. */
const address = (
  fiber: Fiber.Fiber<unknown, unknown>,
  operation: string,
  { docket, madeAt }: Adder,
  task: Task.Any,
  { gates, key, lane, maxBytes, priority, retention, version }: Prepared,
  { json, value }: { readonly json: string; readonly value: unknown },
  due: Docket.Due,
  given: Given | undefined
): Exit.Exit<Docket.EncodedAddition, DocketError> => {
  if (isLonger(json, maxBytes)) {
    return fail(
      operation,
      new LimitExceeded({ limit: maxBytes, option: `the bytes of a payload (\`maxBytes\` of task "${task._tag}")` })
    )
  }
  const addition = Result.try((): Docket.EncodedAddition => ({
    task: task._tag,
    version,
    key: given?.key ?? (key === undefined
      ? generate(docket, task._tag, fiber, madeAt)
      : options.keyOf(task._tag, key, value)),
    payload: json,
    due,
    onExisting: given?.onExisting ?? "keep",
    lane,
    priority: typeof priority === "number" ? priority : priority(value as never), // made for this payload
    retention,
    trace: traceOf(fiber),
    ...gates && { gates: gatesOf(task._tag, gates, value) }
  }))
  if (Result.isFailure(addition)) {
    const message = `the key, the priority or a gate of task "${task._tag}" cannot be computed: ${
      String(addition.failure)
    }`
    return fail(operation, new InvalidPayload({ task: task._tag, message }))
  }
  const wrong = complaint(addition.success)
  if (wrong !== undefined) {
    const message = `task "${task._tag}": ${wrong.message}`
    return fail(operation, new InvalidOption({ option: wrong.option, message }))
  }
  const long = isTooLong(addition.success.key) ? "a key" : isGateTooLong(addition.success.gates) ? "a gate" : undefined
  return long === undefined
    ? Exit.succeed(addition.success)
    : fail(operation, new LimitExceeded({ limit: maxKeyBytes, option: `the bytes of ${long} (task "${task._tag}")` }))
}

/**
 * Encodes one addition: payload, key, time and the options of the task. It is an `Exit` where the schemas need no service
 * and no promise, so that a batch costs no fiber steps.
 */
export const encodeIn = (
  fiber: Fiber.Fiber<unknown, unknown>,
  operation: string,
  client: Adder,
  task: Task.Any,
  input: unknown,
  given: Given | undefined
): Effect.Effect<Docket.EncodedAddition, DocketError> => {
  const prepared = prepare(client, task)
  const when = due(given)
  if (when === undefined) {
    const message = `task "${task._tag}": \`at\` or \`after\` is not a time or a finite duration`
    return fail(operation, new InvalidOption({ option: "at", message }))
  }
  const payload = prepared.codec.encodePayload(input)
  if (Exit.isExit(payload) && Exit.isSuccess(payload)) {
    const encoded = payload.value as { readonly json: string; readonly value: unknown } // an exit of the codec is one of its values
    return address(fiber, operation, client, task, prepared, encoded, when, given)
  }
  return Effect.matchEffect(payload, {
    onFailure: (message) =>
      fail(
        operation,
        new InvalidPayload({ task: task._tag, message: `the payload of task "${task._tag}" is invalid: ${message}` })
      ),
    onSuccess: (encoded) => address(fiber, operation, client, task, prepared, encoded, when, given)
  })
}

/** Encodes one addition. */
export const encode = (
  operation: string,
  client: Adder,
  task: Task.Any,
  input: unknown,
  given: Given | undefined
): Effect.Effect<Docket.EncodedAddition, DocketError> =>
  Effect.withFiber((fiber) => encodeIn(fiber, operation, client, task, input, given))

/** An addition that was encoded without a permission, with the options of the group that grants it now. */
export const grant = (
  client: Client,
  task: Task.Any,
  addition: Docket.EncodedAddition,
  fiber: Fiber.Fiber<unknown, unknown>
): Docket.EncodedAddition => {
  const { gates, lane, priority, retention } = prepare(client, task)
  return {
    ...addition,
    ...gates && { gates: gatesAgain(task._tag, gates, addition.gates) },
    lane,
    priority: typeof priority === "number" ? priority : addition.priority, // a function is the task's own, and was asked before
    retention,
    trace: traceOf(fiber)
  }
}

/** Encodes the first run of a perpetual task. Its key has to be the same in every process that seeds it. */
export const encodeSeed = (
  operation: string,
  client: Adder,
  task: Task.Any,
  input: unknown,
  key: string | undefined
): Effect.Effect<Docket.EncodedAddition, DocketError> =>
  encode(operation, client, task, input, {
    key: key ?? (options.resolved(client.task).key === undefined ? task._tag : undefined)
  })
