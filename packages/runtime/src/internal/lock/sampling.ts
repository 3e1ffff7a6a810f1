/**
 * Values of a task as its code stores them. They are drawn from its schemas, from one seed: the same code gives the same.
 */
import type { Flow, Task } from "@effect-docket/dsl"
import { Flow as Flows } from "@effect-docket/dsl"
import * as Interpreter from "@effect-docket/dsl/Interpreter"
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type { Lock, LockedTask, Part, PartName } from "./file.ts"

// Enough to meet each member of a union and each field that may be missing, and few enough to read.
const count = 12

/** Draws values. A schema that nothing can be drawn from has none: `never`, or a declaration without a generator. */
const draw = (schema: Schema.Top, seed: string): Effect.Effect<ReadonlyArray<unknown>> => {
  const values = Result.try(() => Arbitrary.schema(schema as Schema.Codec<unknown, unknown>)) // only what it decodes to is drawn
  return Result.isFailure(values)
    ? Effect.succeed([])
    : Effect.orElseSucceed(Arbitrary.sampleEffect(values.success, { count, size: 4, seed }), () => [])
}

/** The JSON Schema of what is stored; `null` if it has none. */
const shapeOf = (schema: Schema.Top): Schema.Json =>
  Result.getOrElse(
    Result.try(() => JSON.parse(JSON.stringify(Schema.toJsonSchemaDocument(schema))) as Schema.Json), // as it was written
    () => null
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

const schemaOf = (task: Task.Any, part: PartName): Schema.Top => task[`${part}Schema`]

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

const partOf = Effect.fnUntraced(function*(task: Task.Any, part: PartName): Effect.fn.Return<Part> {
  const schema = schemaOf(task, part)
  const encode = encoderOf(task, part)
  const texts = new Set<string>()
  for (const value of yield* draw(schema, `${task._tag}/${part}`)) {
    const encoded = yield* Effect.result(encode(value))
    if (Result.isSuccess(encoded)) texts.add(encoded.success)
  }
  return { schema: shapeOf(schema), samples: Array.from(texts, (text) => JSON.parse(text) as Schema.Json) } // written by its codec
})

/** A task as the code has it. */
const taskOf = Effect.fnUntraced(function*(task: Task.Any): Effect.fn.Return<LockedTask> {
  return {
    version: Interpreter.resolved(task).version,
    payload: yield* partOf(task, "payload"),
    success: yield* partOf(task, "success"),
    error: yield* partOf(task, "error"),
    progress: yield* partOf(task, "progress"),
    before: []
  }
})

/** Everything as the code has it. */
export const lockOf = Effect.fnUntraced(function*(
  tasks: ReadonlyMap<string, Task.Any>,
  flows: ReadonlyArray<Flow.AnyNamed>
): Effect.fn.Return<Lock> {
  const locked: Record<string, LockedTask> = {}
  for (const tag of Array.from(tasks.keys()).toSorted()) locked[tag] = yield* taskOf(tasks.get(tag)!)
  const graphs = flows.map((flow) => [Interpreter.graph.graphOf(flow), Flows.toMermaid(flow)] as const)
  return {
    format: 1,
    tasks: locked,
    flows: Object.fromEntries(
      graphs.map(([{ name, version }, picture]) => [name, { version, graph: picture.split("\n") }] as const)
        .toSorted(([a], [b]) => a < b ? -1 : 1)
    )
  }
})
