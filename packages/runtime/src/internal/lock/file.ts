/**
 * The form of `docket.lock.json`: what is stored of tasks and flows, as JSON Schemas for people and samples for the check.
 */
import * as Schema from "effect/Schema"

/** What a schema is. */
export const Shape = Schema.Struct({
  /** The JSON Schema of what is stored; `null` if it has none. */
  schema: Schema.Json,
  /** A hash of what it decodes to: a date and a text have the same JSON Schema, and so has whatever is encrypted. */
  type: Schema.String
})
/** What a schema is. */
export type Shape = typeof Shape.Type

/** One value of a task: its schema, and values that this and earlier code has encoded. */
export const Part = Schema.Struct({ ...Shape.fields, samples: Schema.Array(Schema.Json) })
/** One value of a task. */
export type Part = typeof Part.Type

/** A task: its payload, and the samples of payloads of versions before; how it ends; its progress. */
export const LockedTask = Schema.Struct({
  version: Schema.Int,
  payload: Part,
  success: Part,
  error: Part,
  progress: Part,
  before: Schema.Array(Schema.Struct({ version: Schema.Int, samples: Schema.Array(Schema.Json) }))
})
/** A task. */
export type LockedTask = typeof LockedTask.Type

/** A flow: the picture of each of its versions. */
export const LockedFlow = Schema.Record(Schema.String, Schema.Array(Schema.String))
/** A flow. */
export type LockedFlow = typeof LockedFlow.Type

/** The file. */
export const Lock = Schema.Struct({
  format: Schema.Literal(1),
  tasks: Schema.Record(Schema.String, LockedTask),
  flows: Schema.Record(Schema.String, LockedFlow)
})
/** The file. */
export type Lock = typeof Lock.Type

/** Parts of a task, by how their text is read. */
export const parts = ["payload", "success", "error", "progress"] as const
/** The name of a part. */
export type PartName = typeof parts[number]

/** What has that name; a name may be `constructor`. */
export const own = <A>(record: Readonly<Record<string, A>>, name: string): A | undefined =>
  Object.hasOwn(record, name) ? record[name] : undefined

const marker = "~@effect-docket/runtime/sample~"

/** The text of a file: schemas spread out, each sample in a line, so that a difference is read. */
export const print = (lock: Lock): string => {
  const samples: Array<string> = []
  const mark = (sample: unknown) => `${marker}${samples.push(JSON.stringify(sample)) - 1}`
  const text = JSON.stringify(
    lock,
    (name, value: unknown) => name === "samples" && Array.isArray(value) ? value.map(mark) : value,
    2
  )
  return `${text.replaceAll(new RegExp(`"${marker}(\\d+)"`, "g"), (_, n) => samples[Number(n)]!)}\n`
}
