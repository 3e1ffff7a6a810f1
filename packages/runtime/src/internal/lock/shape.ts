/**
 * What tasks and flows are, without any value of theirs.
 */
import type { Flow, Task } from "@effect-docket/dsl"
import { Flow as Flows } from "@effect-docket/dsl"
import * as Interpreter from "@effect-docket/dsl/Interpreter"
import * as Equal from "effect/Equal"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SchemaRepresentation from "effect/SchemaRepresentation"
import { createHash } from "node:crypto"
import type { LockedFlow, PartName, Shape } from "./file.ts"

/** The schema of a part. */
export const schemaOf = (task: Task.Any, part: PartName): Schema.Top => task[`${part}Schema`]

/** The JSON Schema of what is stored; `null` if it has none. */
export const documentOf = (schema: Schema.Top): Schema.Json =>
  Result.getOrElse(
    Result.try(() => JSON.parse(JSON.stringify(Schema.toJsonSchemaDocument(schema))) as Schema.Json), // as it was written
    () => null
  )

const typeOf = (schema: Schema.Top): string =>
  Result.match(Result.try(() => JSON.stringify(SchemaRepresentation.toRepresentation(Schema.toType(schema).ast))), {
    onFailure: () => "",
    onSuccess: (text) => createHash("sha256").update(text).digest("hex").slice(0, 16)
  })

/** What a part of a task is. */
export const shapeOf = (task: Task.Any, part: PartName): Shape => {
  const schema = schemaOf(task, part)
  return { schema: documentOf(schema), type: typeOf(schema) }
}

/** Whether nothing tells them apart. */
export const isSame = (one: Shape, other: Shape): boolean =>
  one.type === other.type && Equal.equals(one.schema, other.schema)

/** The flows by their names, and their versions. */
export const flowsOf = (flows: ReadonlyArray<Flow.AnyNamed>): Readonly<Record<string, LockedFlow>> => {
  const found = new Map<string, Map<string, ReadonlyArray<string>>>()
  for (const flow of flows) {
    const { name, version } = Interpreter.graph.graphOf(flow)
    const versions = found.get(name) ?? new Map<string, ReadonlyArray<string>>()
    found.set(name, versions.set(String(version), Flows.toMermaid(flow).split("\n")))
  }
  return Object.fromEntries(
    Array.from(found, ([name, versions]) => [name, Object.fromEntries(versions)] as const)
      .toSorted(([a], [b]) => a < b ? -1 : 1)
  )
}
