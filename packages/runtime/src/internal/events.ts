/**
 * Events of any execution, for those who do not have its task: values in their JSON form.
 */
import { type Docket, type Execution, Task } from "@effect-docket/dsl"
import * as Interpreter from "@effect-docket/dsl/Interpreter"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { StoredEvent } from "../DocketStore.ts"

type AnyEvent = Execution.Event<unknown, unknown, unknown>

/** A stand-in for a task that only its tag is known of. Tags are few, whatever the number of runs. */
const standIns = new Map<string, Task.Any>()

const standIn = (tag: string): Task.Any => {
  let task = standIns.get(tag)
  if (task === undefined) {
    // whoever publishes something else than we do may say any name
    task = Task.make(tag === "" ? "(unknown)" : tag.toWellFormed(), {
      success: Schema.Json,
      error: Schema.Json,
      progress: Schema.Json
    })
    standIns.set(tag, task)
  }
  return task
}

/** Reads an event without the schemas of its task. */
export const decode = ({ event, key, task }: StoredEvent): Effect.Effect<Docket.AnyEvent | undefined> =>
  Effect.map(
    Interpreter.decodeEvent(standIn(task), key, event),
    (decoded: AnyEvent | undefined) => decoded === undefined ? undefined : { task, key, event: decoded }
  )
