/**
 * Dead letters: read with the schemas of their task, and written again.
 */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Task from "../Task.ts"
import { TaskFailure, Undecodable } from "../TaskFailure.ts"
import { codec } from "./codec.ts"
import * as execution from "./execution.ts"
import type { EncodedDeadLetter } from "./wire.ts"

/** A letter with what `redrive` needs of it. A payload that does not decode is left as its JSON value. */
export const decodeLetter = Effect.fnUntraced(function*(task: Task.Any, letter: EncodedDeadLetter) {
  const exit = yield* execution.decodeOutcome(task, letter.key, { _tag: "Exit", exit: letter.exit })
  const payload = yield* Effect.result(codec(task).decodePayload(letter.payload, letter.version))
  return {
    encoded: letter,
    readable: payload._tag === "Success",
    letter: {
      key: letter.key,
      payload: payload._tag === "Success" ? payload.success : letter.payload,
      error: Exit.isFailure(exit)
        ? execution.errorOf(exit)
        : new TaskFailure({
          task: task._tag,
          key: letter.key,
          reason: new Undecodable({ message: "a failed run holds a success" })
        }),
      attempts: letter.attempt,
      failedAt: DateTime.makeUnsafe(letter.failedAt)
    }
  }
})
