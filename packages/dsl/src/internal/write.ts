/**
 * Writing additions: all are encoded, then all are written.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { AddOptions, Enqueue } from "../Docket.ts"
import type { DocketError } from "../DocketError.ts"
import type * as Execution from "../Execution.ts"
import type * as Task from "../Task.ts"
import * as client from "./client.ts"
import * as execution from "./execution.ts"
import type { EncodedAddition } from "./wire.ts"

/** Payload and options after the task, as `Task.PayloadArgs` and the entries of `addAll` have checked them. */
export type Entry = readonly [task: Task.Any, ...args: ReadonlyArray<unknown>]

type AnyExecution = Execution.Execution<unknown, unknown, unknown, unknown>

/** Encodes all, then writes all: nothing is written if one of them is invalid. */
export const write = (
  operation: string,
  entries: ReadonlyArray<Entry>,
  onExisting?: "replace"
): Effect.Effect<ReadonlyArray<AnyExecution>, DocketError> =>
  entries.length === 0 ? Effect.succeed([]) : Effect.withFiber((fiber) => {
    const context = fiber.context as Context.Context<Enqueue<string>> // the callers' types ask for it
    const { docket } = Context.get(context, client.key(entries[0]![0]._tag))
    const additions: Array<EncodedAddition> = []
    const commit = () =>
      Effect.map(
        docket.addEncoded(additions, { atomic: true }),
        (added) =>
          added.map((one, index): AnyExecution =>
            execution.make(docket, entries[index]![0], additions[index]!.key, one)
          )
      )
    const encode = (): Effect.Effect<ReadonlyArray<AnyExecution>, DocketError> => {
      for (const [task, payload, options] of entries.slice(additions.length)) {
        const granted = Context.get(context, client.key(task._tag))
        if (granted.docket !== docket) {
          return Effect.die(
            new Error(
              `${operation}: "${task._tag}" was granted by docket "${granted.docket.name}", another entry by "${docket.name}"; one batch goes to one docket`
            )
          )
        }
        const given = options as AddOptions | undefined // see `Entry`
        const addition = client.encodeIn(
          fiber,
          operation,
          granted,
          task,
          payload,
          onExisting ? { ...given, onExisting } : given
        )
        if (!Exit.isExit(addition) || Exit.isFailure(addition)) {
          return Effect.flatMap(addition, (addition) => {
            additions.push(addition)
            return encode()
          })
        }
        additions.push(addition.value as EncodedAddition) // an exit of `encodeIn` is one of its values
      }
      return commit()
    }
    return encode()
  })
