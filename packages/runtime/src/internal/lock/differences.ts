/**
 * What differs between the file and the code: samples that are not read any more, and what was changed, came or went.
 */
import type { Task } from "@effect-docket/dsl"
import * as Interpreter from "@effect-docket/dsl/Interpreter"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import type * as Schema from "effect/Schema"
import type { Difference } from "../../SchemaLock.ts"
import * as lock from "./file.ts"
import { refusal } from "./sampling.ts"
import { isSame, shapeOf } from "./shape.ts"

const breaking = (of: string, message: string): Difference => ({ _tag: "Breaking", of, message })
const changed = (of: string, message: string): Difference => ({ _tag: "Changed", of, message })

/** Reads samples of a part with the code; the first that is refused. */
const counterExample = Effect.fnUntraced(function*(
  task: Task.Any,
  part: lock.PartName,
  samples: ReadonlyArray<Schema.Json>,
  version: number
) {
  for (const sample of samples) {
    const message = yield* refusal(task, part, sample, version)
    if (message !== undefined) {
      return breaking(`${task._tag}.${part}`, `${JSON.stringify(sample)} of version ${version}: ${message}`)
    }
  }
  return undefined
})

const taskDifferences = Effect.fnUntraced(function*(
  task: Task.Any,
  locked: lock.LockedTask
): Effect.fn.Return<ReadonlyArray<Difference>> {
  const tag = task._tag
  const { version } = Interpreter.resolved(task)
  if (version < locked.version) {
    return [
      breaking(tag, `its version was ${locked.version} and is ${version}: what is stored waits for a newer worker`)
    ]
  }
  const found: Array<Difference> = []
  for (const before of locked.before) {
    const example = yield* counterExample(task, "payload", before.samples, before.version)
    if (example !== undefined) found.push(example)
  }
  // a version migrates payloads alone: results of the one before are still read, by whoever waits and by flows under way
  for (const part of lock.parts) {
    const example = yield* counterExample(task, part, locked[part].samples, locked.version)
    if (example !== undefined) found.push(example)
    else if (!isSame(locked[part], shapeOf(task, part))) {
      found.push(changed(`${tag}.${part}`, "its schema is another one"))
    }
  }
  if (version > locked.version) found.push(changed(tag, `its version was ${locked.version} and is ${version}`))
  return found
})

const flowDifferences = (
  name: string,
  locked: lock.LockedFlow,
  now: lock.LockedFlow | undefined
): ReadonlyArray<Difference> => {
  const of = `flow ${name}`
  if (now === undefined) return [breaking(of, "it is gone: what is under way would wait for ever")]
  const latest = Math.max(...Object.keys(now).map(Number))
  return [
    ...Object.entries(locked).flatMap(([version, graph]) => {
      const current = lock.own(now, version)
      if (current === undefined) {
        return latest < Number(version)
          ? [breaking(of, `its version was ${version} and is ${latest}: what is under way waits for a newer worker`)]
          : [changed(of, `its version ${version} is gone: what is under way waits for a worker that has it`)]
      }
      return Equal.equals(graph, current) ? [] : [
        breaking(of, `its graph is another one, and its version is still ${version}: what is under way would go astray`)
      ]
    }),
    ...Object.keys(now).filter((version) => !Object.hasOwn(locked, version)).map((version) =>
      changed(of, `its version ${version} is new`)
    )
  ]
}

/** The flows of the code. */
export type Flows = Readonly<Record<string, lock.LockedFlow>>

/** Everything that differs. */
export const differencesOf = Effect.fnUntraced(function*(
  tasks: ReadonlyMap<string, Task.Any>,
  flows: Flows,
  locked: lock.Lock
): Effect.fn.Return<ReadonlyArray<Difference>> {
  const found: Array<Difference> = []
  for (const [tag, before] of Object.entries(locked.tasks)) {
    const task = tasks.get(tag)
    if (task === undefined) found.push(breaking(tag, "it is gone: runs of it that are stored would wait for ever"))
    else found.push(...yield* taskDifferences(task, before))
  }
  for (const [name, before] of Object.entries(locked.flows)) {
    found.push(...flowDifferences(name, before, lock.own(flows, name)))
  }
  const isNew = (name: string, among: object) => !Object.hasOwn(among, name)
  return [
    ...found,
    ...Array.from(tasks.keys()).filter((tag) => isNew(tag, locked.tasks)).map((tag) => changed(tag, "it is new")),
    ...Object.keys(flows).filter((name) => isNew(name, locked.flows)).map((name) =>
      changed(`flow ${name}`, "it is new")
    )
  ]
})
