/**
 * The form of values in stores: what an earlier build has stored, with schemas of every kind, is read by this one. A change of
 * it, here or in `effect`, is a new format of the stores, and not just a new lock.
 */
import { Task, TaskFailure, TaskGroup } from "@effect-docket/dsl"
import { SchemaLock } from "@effect-docket/runtime/testing"
import { it } from "@effect/vitest"
import { Schema } from "effect"
import { fileURLToPath } from "node:url"

class Circle extends Schema.TaggedClass<Circle>()("Circle", { radius: Schema.Finite }) {}
class Square extends Schema.TaggedClass<Square>()("Square", { side: Schema.BigInt }) {}
class Refused extends Schema.TaggedError<Refused>()("Refused", { at: Schema.DateTimeUtc }) {}

const Rich = Schema.Struct({
  text: Schema.String,
  number: Schema.Finite,
  big: Schema.BigInt,
  flag: Schema.Boolean,
  at: Schema.DateTimeUtc,
  date: Schema.Date,
  length: Schema.Duration,
  option: Schema.Option(Schema.Int),
  shape: Schema.Union([Circle, Square]),
  map: Schema.ReadonlyMap(Schema.BigInt, Schema.String),
  set: Schema.ReadonlySet(Schema.Int),
  bytes: Schema.Uint8Array,
  tuple: Schema.Tuple([Schema.Null, Schema.UndefinedOr(Schema.Int)]),
  record: Schema.Record(Schema.String, Schema.Int),
  result: Schema.Result(Schema.Int, Schema.String),
  note: Schema.optionalKey(Schema.String)
})

class Everything extends TaskGroup.make(
  Task.make("Rich", { payload: Rich, success: Circle, error: Refused, progress: Square }),
  Task.make("Plain"),
  Task.make("Failed", { error: TaskFailure.TaskFailure }),
  Task.make("Joined", {
    payload: { outcome: Task.outcome(Task.make("Part", { success: Schema.Int, error: Refused })) }
  })
) {}

const file = fileURLToPath(new URL("./wire.lock.json", import.meta.url))

it.effect("what an earlier build has stored is read", () =>
  process.env["SCHEMA_LOCK"] === "write"
    ? SchemaLock.write(Everything, { file })
    : SchemaLock.check(Everything, { file }))
