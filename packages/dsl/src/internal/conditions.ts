/**
 * Conditions of strikes, in the form that stores compare.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { DocketError, InvalidPayload } from "../DocketError.ts"
import * as Strike from "../Strike.ts"
import type * as Task from "../Task.ts"
import { mayBeEncrypted } from "./redacted.ts"
import type { EncodedCondition } from "./wire.ts"

const refuse = (operation: string, task: Task.Any, message: string) =>
  new DocketError({ operation, reason: new InvalidPayload({ task: task._tag, message }) })

/** The conditions of a strike in their JSON form, in the order of the field names, so that `restore` finds them. */
export const conditions = Effect.fnUntraced(function*(
  operation: string,
  task: Task.Any,
  where: Readonly<Record<string, unknown>> | undefined
): Effect.fn.Return<ReadonlyArray<EncodedCondition>, DocketError> {
  if (where === undefined) return []
  const schemas: Readonly<Record<string, Schema.Top>> = "fields" in task.payloadSchema
    ? task.payloadSchema.fields as Readonly<Record<string, Schema.Top>> // struct and class schemas have their fields there
    : {}
  const encoded: Array<EncodedCondition> = []
  for (const field of Object.keys(where).toSorted()) {
    const { operator, values } = Strike.parts(where[field])
    const schema = schemas[field] ?? Schema.Unknown
    if (mayBeEncrypted(schema.ast)) {
      return yield* refuse(operation, task, `field ${field} is encrypted, it cannot be compared`)
    }
    const encode = Schema.encodeUnknownEffect(Schema.toCodecJson(schema)) as (
      value: unknown
    ) => Effect.Effect<unknown, Schema.SchemaError> // fields of a strike are scalars
    encoded.push({
      field,
      operator,
      bigint: values.some((value) => typeof value === "bigint"),
      values: yield* Effect.forEach(values, encode).pipe(
        Effect.mapError((error) => refuse(operation, task, `field ${field}: ${error.message}`))
      )
    })
  }
  return encoded
})
