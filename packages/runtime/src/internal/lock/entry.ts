/**
 * What is written of a task: samples of the code as it is, and those of earlier code that may still be stored.
 */
import type { Task } from "@effect-docket/dsl"
import * as Interpreter from "@effect-docket/dsl/Interpreter"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import type * as Schema from "effect/Schema"
import type * as lock from "./file.ts"
import { refusal, samplesOf } from "./sampling.ts"
import { isSame, shapeOf } from "./shape.ts"

// versions before of which payloads are kept: what is older has been read, or will not be
const mostBefore = 5

// samples of what a part was before, beside all of those of the code as it is: the latest ones
const mostKept = 100

/** The task as it is written. A message, if no sample of it can be drawn. */
export const entryOf = Effect.fnUntraced(function*(
  task: Task.Any,
  locked: lock.LockedTask | undefined
): Effect.fn.Return<lock.LockedTask, string> {
  const { version } = Interpreter.resolved(task)
  // what is not read any more is not kept: `force` has said that it is not stored
  const readable = (part: lock.PartName, samples: ReadonlyArray<Schema.Json>, version: number) =>
    Effect.filter(samples, (sample) => Effect.map(refusal(task, part, sample, version), Predicate.isUndefined))
  const isNew = locked !== undefined && version > locked.version
  const partOf = Effect.fnUntraced(function*(part: lock.PartName): Effect.fn.Return<lock.Part, string> {
    const shape = shapeOf(task, part)
    const before = locked?.[part]
    // payloads of a version before are kept with it
    const kept = before === undefined || isNew && part === "payload"
      ? []
      : yield* readable(part, before.samples, version)
    // samples of a schema that is the same stay, so that the file changes with the code alone
    if (kept.length > 0 && before !== undefined && isSame(before, shape)) return { ...shape, samples: kept }
    const drawn = yield* Effect.mapError(samplesOf(task, part), (message) => `${task._tag}.${part}: ${message}`)
    return { ...shape, samples: [...drawn, ...kept.slice(0, mostKept)] }
  })
  const before = isNew
    ? [{ version: locked.version, samples: locked.payload.samples }, ...locked.before]
    : locked?.before
  return {
    version,
    payload: yield* partOf("payload"),
    success: yield* partOf("success"),
    error: yield* partOf("error"),
    progress: yield* partOf("progress"),
    before: yield* Effect.forEach(
      (before ?? []).slice(0, mostBefore),
      ({ samples, version }) => Effect.map(readable("payload", samples, version), (samples) => ({ version, samples }))
    )
  }
})
