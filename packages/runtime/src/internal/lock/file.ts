/**
 * The form of `docket.lock.json`: what is stored of tasks and flows, as JSON Schemas for people and samples for the check.
 */
import * as Schema from "effect/Schema"

/** One value of a task: its JSON Schema, and values that its code has encoded. `None`: its schema has none. */
export const Part = Schema.Struct({
  schema: Schema.Json,
  samples: Schema.Array(Schema.Json)
})
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

/** A flow: its version and its picture. */
export const LockedFlow = Schema.Struct({ version: Schema.Int, graph: Schema.Array(Schema.String) })

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
