/**
 * Values of a task as its code stores them, and whether code reads what is stored. They are drawn from its schemas, from one
 * seed: the same code gives the same.
 */
import type { Task } from "@effect-docket/dsl"
import * as Interpreter from "@effect-docket/dsl/Interpreter"
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"
import { cover, literalsOf } from "./coverage.ts"
import type { PartName } from "./file.ts"
import { documentOf, schemaOf } from "./shape.ts"

// Many, so that rare members of a union are among them; most are small, because people read what is chosen of them.
const draws = [{ size: 4, count: 250 }, { size: 0, count: 50 }, { size: 16, count: 200 }] as const

// So many literals are all among them, but for one time in some thousands. Where there are more, more is drawn.
const fewLiterals = 40

/** Draws values; fewer than asked for, if a check refuses most. */
const draw = (
  arbitrary: Arbitrary.Arbitrary<unknown>,
  options: { readonly size: number; readonly count: number; readonly seed: string }
): Effect.Effect<ReadonlyArray<unknown>> =>
  Arbitrary.sampleEffect(arbitrary, options).pipe(
    Effect.catch(({ generated: count }) =>
      count === 0 ? Effect.succeed([]) : Effect.orDie(Arbitrary.sampleEffect(arbitrary, { ...options, count }))
    )
  )

/** What encodes a part. */
const encoderOf = (task: Task.Any, part: PartName): (value: unknown) => Effect.Effect<string, string> => {
  const codec = Interpreter.codec(task)
  switch (part) {
    case "payload":
      return (value) => Effect.map(codec.encodePayload(value), ({ json }) => json)
    case "success":
      return codec.encodeSuccess
    case "error":
      return codec.encodeFailure
    case "progress":
      return codec.encodeProgress
  }
}

/** Values of a part as they are stored; what is wrong if there are none, and there should be. */
export const samplesOf = Effect.fnUntraced(function*(
  task: Task.Any,
  part: PartName
): Effect.fn.Return<ReadonlyArray<Schema.Json>, string> {
  const schema = schemaOf(task, part)
  if (SchemaAST.isNever(schema.ast)) return []
  const derived = Result.try(() => Arbitrary.schema(schema as Schema.Codec<unknown, unknown>)) // only what it decodes to is drawn
  if (Result.isFailure(derived)) return yield* Effect.fail(String(derived.failure))
  const encode = encoderOf(task, part)
  // what is encrypted shows nothing: values are told apart by what they decode to
  const type = Schema.toType(schema)
  const inClear = Schema.encodeUnknownOption(Schema.toCodecJson(type) as Schema.Codec<unknown, Schema.Json>) // it needs no service
  const document = documentOf(type)
  const times = Math.max(1, Math.ceil(literalsOf(document) / fewLiterals))
  const values: Array<{ readonly value: Schema.Json; readonly json: Schema.Json }> = []
  let refused = "its checks refuse each value that was drawn"
  for (const { count, size } of draws) {
    for (
      const value of yield* draw(derived.success, { count: count * times, size, seed: `${task._tag}/${part}/${size}` })
    ) {
      const text = yield* Effect.result(encode(value))
      if (Result.isFailure(text)) {
        refused = text.failure
        continue
      }
      const stored = JSON.parse(text.success) as Schema.Json // written by its codec
      const json = Option.getOrElse(Option.flatten(Result.getSuccess(Result.try(() => inClear(value)))), () => stored)
      values.push({ value: stored, json })
    }
  }
  return values.length === 0 ? yield* Effect.fail(refused) : cover(values, document)
})

/** Whether a stored text is read by the code: nothing, or what is wrong. */
export const refusal = (
  task: Task.Any,
  part: PartName,
  sample: Schema.Json,
  version: number
): Effect.Effect<string | undefined> => {
  const codec = Interpreter.codec(task)
  const json = JSON.stringify(sample)
  const decoded: Effect.Effect<unknown, string> = part === "payload"
    ? codec.decodePayload(json, version)
    : part === "progress"
    ? codec.decodeProgress(json)
    : codec.decodeExit(json)
  return Effect.map(
    Effect.exit(decoded),
    (exit) =>
      Exit.isSuccess(exit)
        ? undefined
        : exit.cause.reasons.map((reason) => reason._tag === "Fail" ? reason.error : String(reason)).join(", ")
  )
}
