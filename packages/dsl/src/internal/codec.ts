/**
 * The wire form of a task: JSON text for payloads, outcomes and progress, built from its schemas once.
 *
 * Text and not values, because stores keep text: what is written is what is read back, in every process.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type * as SchemaIssue from "effect/SchemaIssue"
import type * as Task from "../Task.ts"
import { TaskFailure } from "../TaskFailure.ts"
import * as options from "./options.ts"
import { isInClear } from "./redacted.ts"

/** A step of a codec: services of the schemas are provided by whoever runs it, errors are messages. */
export type Step<A> = Effect.Effect<A, string, never>

/** Encodes and decodes what one task stores. */
export interface Codec {
  /** From the constructor input: the decoded value (defaults applied), and its text. */
  readonly encodePayload: (input: unknown) => Step<{ readonly value: unknown; readonly json: string }>
  readonly decodePayload: (json: string, version: number) => Step<unknown>
  /** The text of the outcome of a success. */
  readonly encodeSuccess: (value: unknown) => Step<string>
  /** The text of the outcome of a declared error or a `TaskFailure`. */
  readonly encodeFailure: (error: unknown) => Step<string>
  readonly decodeExit: (json: string) => Step<Exit.Exit<unknown, unknown>>
  /** The same of what has been parsed. */
  readonly readExit: (stored: unknown) => Step<Exit.Exit<unknown, unknown>>
  readonly encodeProgress: (value: unknown) => Step<string>
  readonly decodeProgress: (json: string) => Step<unknown>
}

const message = (error: unknown): string => error instanceof Error ? error.message : String(error)
const failWithMessage = (error: unknown): Step<never> => Effect.fail(message(error))

/** Runs a step of user code that may throw or die, so that a bad value never stops a worker or a producer. */
const guarded = <A>(step: () => Effect.Effect<A, unknown>): Step<A> => {
  const effect = Result.try(step)
  if (Result.isFailure(effect)) return failWithMessage(effect.failure)
  // schemas without services are evaluated at once
  if (Exit.isExit(effect.success) && Exit.isSuccess(effect.success)) return effect.success as unknown as Step<A> // a success has no error
  return Effect.catchCause(effect.success, (cause) =>
    Cause.hasInterruptsOnly(cause)
      ? Effect.interrupt
      : failWithMessage(Cause.squash(cause)))
}

/** The success of a step, if it is known without a fiber. */
export const known = <A>(step: Effect.Effect<A, unknown>): Exit.Success<A> | undefined =>
  Exit.isExit(step) && Exit.isSuccess(step) ? step as Exit.Success<A> : undefined // an exit of a step is one of its values

/**
 * `flatMap` that stays an `Exit` where it can: a fiber pays for each step that is not one. It is not called `then`: a module
 * with an export of that name is a promise to whoever imports it dynamically.
 */
export const andThen = <A, B>(self: Step<A>, f: (value: A) => Step<B>): Step<B> =>
  Exit.isExit(self)
    ? Exit.isSuccess(self) ? f(self.value as A) : self as Exit.Exit<never, string> // an exit of a step is one of its values
    : Effect.flatMap(self, f)

// Twice as deep, a recursive schema overflows the stack, and it must not depend on whose stack it is whether a text can be
// read. What is nested by hand stays far below.
const maxDepth = 500

/** Whether a text is nested too deep. One that is shorter than its brackets would be is not looked at. */
const isTooDeep = (json: string): boolean => {
  if (json.length <= 2 * maxDepth) return false
  let depth = 0
  let quoted = false
  for (let i = 0; i < json.length; i++) {
    const code = json.charCodeAt(i)
    if (code === quote) quoted = !quoted
    else if (quoted) i += code === backslash ? 1 : 0
    else if (code === bracket || code === brace) {
      if (++depth > maxDepth) return true
    } else if (code === bracket + 2 || code === brace + 2) depth--
  }
  return false
}
const [quote, backslash, bracket, brace] = [34, 92, 91, 123] as const // each closing one is two behind its opening one

const tooDeep = Exit.fail(`it is nested deeper than ${maxDepth} levels`)

/** The value of a stored text. */
export const parse = (json: string): Step<unknown> => {
  if (isTooDeep(json)) return tooDeep
  const value = Result.try(() => JSON.parse(json) as unknown)
  return Result.isSuccess(value)
    ? Exit.succeed(value.success)
    : Exit.fail(`the stored text is not JSON (${message(value.failure)})`)
}

const stringify = (value: unknown): Step<string> =>
  andThen(guarded(() => Exit.succeed(JSON.stringify(value))), (json) => isTooDeep(json) ? tooDeep : Exit.succeed(json))

/** The JSON codec of a schema. Whoever runs its steps provides the services: see `Step`. */
const jsonCodec = (schema: Schema.Top) => Schema.toCodecJson(schema) as unknown as Schema.Codec<unknown, unknown>

/** The encoder of a schema. */
const encoder = (schema: Schema.Top): (value: unknown) => Effect.Effect<unknown, unknown> =>
  isInClear(schema)
    ? () =>
      Effect.fail(
        "it holds a Redacted value, which would be stored in clear; give that field an encoded form of its own, such as an encrypted text"
      )
    : Schema.encodeUnknownEffect(jsonCodec(schema))

/** From the constructor input: the value, defaults applied. */
const construct = (schema: Schema.Top, input: unknown): Step<unknown> =>
  guarded(() => {
    const made = schema.makeEffect(input) as Effect.Effect<unknown, SchemaIssue.Issue> // whoever runs it provides the services
    return known(made) ?? Effect.mapError(made, (issue) => new Schema.SchemaError(issue))
  })

/** Builds the values of a schema, and keeps them as text. */
export const jsonStep = (schema: Schema.Top): {
  /** From the constructor input: the value (defaults applied), and its text. */
  readonly encode: (input: unknown) => Step<{ readonly value: unknown; readonly json: string }>
  readonly decode: (json: string) => Step<unknown>
} => {
  const encode = encoder(schema)
  const decode = Schema.decodeUnknownEffect(jsonCodec(schema))
  return {
    encode: (input) =>
      andThen(
        construct(schema, input),
        (value) =>
          andThen(guarded(() => encode(value)), (encoded) =>
            andThen(stringify(encoded), (json) => Exit.succeed({ value, json })))
      ),
    decode: (json) => andThen(parse(json), (stored) => guarded(() => decode(stored)))
  }
}

const make = (task: Task.Any): Codec => {
  const { migrate, version: current } = options.resolved(task)
  const payload = jsonCodec(task.payloadSchema)
  const encodePayload = encoder(task.payloadSchema)
  const decodePayload = Schema.decodeUnknownEffect(payload)
  const encodeSuccess = encoder(task.successSchema)
  const failure = Schema.Union([task.errorSchema, TaskFailure])
  const encodeFailure = encoder(failure)
  const decodeExit = Schema.decodeUnknownEffect(
    jsonCodec(Schema.Exit(task.successSchema, failure, Schema.Defect())) as Schema.Codec<
      Exit.Exit<unknown, unknown>,
      unknown
    > // what it decodes to
  )
  const decodeSuccess = Schema.decodeUnknownEffect(jsonCodec(task.successSchema))
  const readExit = (stored: unknown): Step<Exit.Exit<unknown, unknown>> => {
    // most are successes; a union of exits, with all that a cause can be, costs more
    if (Predicate.hasProperty(stored, "value") && Predicate.isTagged(stored, "Success")) {
      const value = known(guarded(() => decodeSuccess(stored.value)))
      if (value !== undefined) return Exit.succeed(Exit.succeed(value.value))
    }
    return guarded(() => decodeExit(stored))
  }
  const progress = jsonCodec(task.progressSchema)
  const encodeProgress = encoder(task.progressSchema)
  const decodeProgress = Schema.decodeUnknownEffect(progress)
  // a payload that can be built from nothing may be left out
  const empty = Predicate.hasProperty(task.payloadSchema, "fields") ? {} : undefined
  const constructPayload = (input: unknown) => construct(task.payloadSchema, input === undefined ? empty : input)
  return {
    encodePayload: (input) =>
      andThen(
        constructPayload(input),
        (value) =>
          andThen(guarded(() => encodePayload(value)), (encoded) =>
            andThen(stringify(encoded), (json) => Exit.succeed({ value, json })))
      ),
    decodePayload: (json, version) =>
      andThen(parse(json), (stored) =>
        version < current && migrate !== undefined
          ? andThen(guarded(() => Exit.succeed(migrate(stored, version))), constructPayload)
          : guarded(() => decodePayload(stored))),
    // the form of `Schema.Exit`, written without its detour
    encodeSuccess: (value) =>
      andThen(
        guarded(() => encodeSuccess(value)),
        (encoded) => andThen(stringify(encoded), (json) => Exit.succeed(`{"_tag":"Success","value":${json}}`))
      ),
    encodeFailure: (error) =>
      andThen(
        guarded(() => encodeFailure(error)),
        (encoded) =>
          andThen(
            stringify(encoded),
            (json) => Exit.succeed(`{"_tag":"Failure","cause":[{"_tag":"Fail","error":${json}}]}`)
          )
      ),
    decodeExit: (json) => andThen(parse(json), readExit),
    readExit,
    encodeProgress: (value) => andThen(guarded(() => encodeProgress(value)), stringify),
    decodeProgress: (json) => andThen(parse(json), (encoded) => guarded(() => decodeProgress(encoded)))
  }
}

const cache = new WeakMap<Task.Any, Codec>()

/** The codec of a task. */
export const codec = (task: Task.Any): Codec => {
  let codec = cache.get(task)
  if (codec === undefined) {
    codec = make(task)
    cache.set(task, codec)
  }
  return codec
}
