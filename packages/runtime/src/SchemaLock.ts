/**
 * Finds out before a deploy whether what is stored can still be read: a file beside the code, `docket.lock.json`, holds what the
 * code of the last release has stored, and a test reads it with the code of this one.
 *
 * Payloads wait for days, and results are kept for weeks: a field that became required is found in production, by a dead
 * letter, or here, by a counter-example.
 *
 * @since 0.1.0
 */
import type { Flow, Task, TaskGroup } from "@effect-docket/dsl"
import * as Interpreter from "@effect-docket/dsl/Interpreter"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import { readFile, writeFile } from "node:fs/promises"
import { Lock, type LockedTask, type PartName, parts, print } from "./internal/lock/file.ts"
import { lockOf, refusal } from "./internal/lock/sampling.ts"

/**
 * What to lock.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** Default "docket.lock.json", where the tests run. */
  readonly file?: string | undefined
  /** Flows that are locked as well. */
  readonly flows?: ReadonlyArray<Flow.AnyNamed> | undefined
}

/**
 * A difference between the file and the code. `Breaking`: something that may be stored is not read any more. `Changed`: all of
 * it is, and the file says something else.
 *
 * @category models
 * @since 0.1.0
 */
export interface Difference {
  readonly _tag: "Breaking" | "Changed"
  /** A task or a flow, and a part of it. */
  readonly of: string
  readonly message: string
}

/**
 * The code does not read what the file says is stored, or the file does not say what the code stores.
 *
 * @category errors
 * @since 0.1.0
 */
export class SchemaLockError extends Data.TaggedError("SchemaLockError")<{
  readonly differences: ReadonlyArray<Difference>
  readonly message: string
}> {}

const defaultFile = "docket.lock.json"

// versions before of which samples are kept: what is older has been read, or will not be
const mostBefore = 5

const breaking = (of: string, message: string): Difference => ({ _tag: "Breaking", of, message })
const changed = (of: string, message: string): Difference => ({ _tag: "Changed", of, message })

const errorOf = (file: string, differences: ReadonlyArray<Difference>, advice: string): SchemaLockError =>
  new SchemaLockError({
    differences,
    message: [`${file}: ${advice}`, ...differences.map(({ _tag, message, of }) => `  ${_tag}: ${of}: ${message}`)].join(
      "\n"
    )
  })

const isMissing = (cause: unknown): boolean => Predicate.hasProperty(cause, "code") && cause.code === "ENOENT"

const parse = Schema.decodeEffect(Schema.fromJsonString(Lock))

/** Reads the file; `undefined` if there is none. */
const read = (file: string): Effect.Effect<Lock | undefined, SchemaLockError> => {
  const unreadable = (error: unknown) => errorOf(file, [], `it cannot be read (${String(error)})`)
  return Effect.tryPromise(() => readFile(file, "utf8")).pipe(
    Effect.catch(({ cause }) => isMissing(cause) ? Effect.undefined : Effect.fail(unreadable(cause))),
    Effect.flatMap((text) => text === undefined ? Effect.undefined : Effect.mapError(parse(text), unreadable))
  )
}

/** Reads samples of a part with the code; the first that is refused. */
const counterExample = Effect.fnUntraced(function*(
  task: Task.Any,
  part: PartName,
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
  locked: LockedTask,
  now: LockedTask
): Effect.fn.Return<ReadonlyArray<Difference>> {
  const tag = task._tag
  if (now.version < locked.version) {
    return [
      breaking(tag, `its version was ${locked.version} and is ${now.version}: what is stored waits for a newer worker`)
    ]
  }
  const found: Array<Difference> = []
  for (const { samples, version } of locked.before) {
    const example = yield* counterExample(task, "payload", samples, version)
    if (example !== undefined) found.push(example)
  }
  for (const part of parts) {
    // what has ended is not migrated: a new version says that its old results are given up
    if (part !== "payload" && now.version > locked.version) continue
    const example = yield* counterExample(task, part, locked[part].samples, locked.version)
    if (example !== undefined) found.push(example)
    else if (!Equal.equals(locked[part].schema, now[part].schema)) {
      found.push(changed(`${tag}.${part}`, "its schema is another one"))
    }
  }
  if (now.version > locked.version) found.push(changed(tag, `its version was ${locked.version} and is ${now.version}`))
  return found
})

const differencesOf = Effect.fnUntraced(function*(
  tasks: ReadonlyMap<string, Task.Any>,
  locked: Lock,
  now: Lock
): Effect.fn.Return<ReadonlyArray<Difference>> {
  const found: Array<Difference> = []
  for (const [tag, before] of Object.entries(locked.tasks)) {
    const task = tasks.get(tag)
    if (task === undefined) found.push(breaking(tag, "it is gone: runs of it that are stored would wait for ever"))
    else found.push(...yield* taskDifferences(task, before, now.tasks[tag]!))
  }
  for (const tag of tasks.keys()) {
    if (!Object.hasOwn(locked.tasks, tag)) found.push(changed(tag, "it is new"))
  }
  for (const [name, before] of Object.entries(locked.flows)) {
    const flow = now.flows[name]
    if (flow === undefined) found.push(breaking(`flow ${name}`, "it is gone: what is under way would wait for ever"))
    else if (flow.version < before.version) found.push(breaking(`flow ${name}`, "its version is lower than before"))
    else if (flow.version > before.version) {
      found.push(changed(`flow ${name}`, `its version was ${before.version} and is ${flow.version}`))
    } else if (!Equal.equals(flow.graph, before.graph)) {
      found.push(
        breaking(
          `flow ${name}`,
          "its graph is another one, and its version is the same: what is under way would go astray"
        )
      )
    }
  }
  for (const name of Object.keys(now.flows)) {
    if (!Object.hasOwn(locked.flows, name)) found.push(changed(`flow ${name}`, "it is new"))
  }
  return found
})

/** The tasks of a group and of flows. */
const tasksOf = (group: TaskGroup.Any, flows: ReadonlyArray<Flow.AnyNamed>): ReadonlyMap<string, Task.Any> =>
  new Map([...flows.flatMap((flow) => [...Interpreter.graph.graphOf(flow).tasks]), ...group.tasks])

interface Compared {
  readonly file: string
  readonly locked: Lock | undefined
  readonly now: Lock
  readonly differences: ReadonlyArray<Difference>
}

const compare = Effect.fnUntraced(function*(
  group: TaskGroup.Any,
  { file = defaultFile, flows = [] }: Options
): Effect.fn.Return<Compared, SchemaLockError> {
  const tasks = tasksOf(group, flows)
  const locked = yield* read(file)
  const now = yield* lockOf(tasks, flows)
  return { file, locked, now, differences: locked === undefined ? [] : yield* differencesOf(tasks, locked, now) }
})

/** What is kept of the file: samples of a schema that is the same, so that the file changes with the code alone. */
const keep = (locked: LockedTask | undefined, now: LockedTask): LockedTask => {
  if (locked === undefined) return now
  const isNew = now.version > locked.version
  const part = (name: PartName) =>
    isNew || !Equal.equals(locked[name].schema, now[name].schema) ? now[name] : locked[name]
  const before = isNew
    ? [{ version: locked.version, samples: locked.payload.samples }, ...locked.before]
    : locked.before
  // of one version, but of an earlier schema: these may still be stored
  const earlier = !isNew && part("payload") !== locked.payload
    ? [{ version: locked.version, samples: locked.payload.samples }]
    : []
  return {
    ...now,
    payload: part("payload"),
    success: part("success"),
    error: part("error"),
    progress: part("progress"),
    before: [...earlier, ...before].slice(0, mostBefore)
  }
}

/**
 * Compares the file with the code, and fails if they differ: with a counter-example where something that may be stored is not
 * read any more, and with advice where it is. Give it what the schemas need: a field that is encrypted needs a keyring.
 *
 * A payload may change in such a way if `version` is increased and `migrate` reads what is stored.
 *
 * @category running
 * @since 0.1.0
 */
export const check = <Tasks extends Task.Any>(
  group: TaskGroup.TaskGroup<Tasks>,
  options: Options = {}
): Effect.Effect<void, SchemaLockError, Task.ServicesClient<Tasks> | Task.ServicesServer<Tasks>> =>
  Effect.flatMap(compare(group, options), ({ differences, file, locked }) => {
    if (locked === undefined) return Effect.fail(errorOf(file, [], "there is none: make one with `SchemaLock.write`"))
    if (differences.length === 0) return Effect.void
    const advice = differences.some(({ _tag }) => _tag === "Breaking")
      ? "what is stored is not read any more; read it, or increase `version` and declare `migrate`"
      : "it is not up to date: write it with `SchemaLock.write`, and commit it"
    return Effect.fail(errorOf(file, differences, advice))
  })

/**
 * Writes the file. It refuses what `check` calls breaking, unless `force` says that nothing of it is stored any more.
 *
 * @category running
 * @since 0.1.0
 */
export const write = <Tasks extends Task.Any>(
  group: TaskGroup.TaskGroup<Tasks>,
  options: Options & { readonly force?: boolean | undefined } = {}
): Effect.Effect<ReadonlyArray<Difference>, SchemaLockError, Task.ServicesClient<Tasks> | Task.ServicesServer<Tasks>> =>
  Effect.flatMap(compare(group, options), ({ differences, file, locked, now }) => {
    const broken = differences.filter(({ _tag }) => _tag === "Breaking")
    if (broken.length > 0 && options.force !== true) {
      return Effect.fail(errorOf(file, broken, "what is stored is not read any more; it is not written"))
    }
    const isForced = broken.length > 0
    const tasks = Object.fromEntries(
      Object.entries(now.tasks).map(([tag, task]) => [tag, isForced ? task : keep(locked?.tasks[tag], task)])
    )
    return Effect.tryPromise({
      try: () => writeFile(file, print({ ...now, tasks })),
      catch: (error) => errorOf(file, [], `it cannot be written (${String(error)})`)
    }).pipe(Effect.as(differences))
  })
