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
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import { readFile, writeFile } from "node:fs/promises"
import { differencesOf, type Flows } from "./internal/lock/differences.ts"
import { entryOf } from "./internal/lock/entry.ts"
import * as lock from "./internal/lock/file.ts"
import { flowsOf } from "./internal/lock/shape.ts"

/**
 * What to lock.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<Flows extends ReadonlyArray<Flow.AnyNamed>> {
  /** Default "docket.lock.json", where the tests run. */
  readonly file?: string | undefined
  /** Flows that are locked as well, and their tasks. */
  readonly flows?: Flows | undefined
}

/**
 * A difference between the file and the code. `Breaking`: a sample of what is stored is not read any more. `Changed`: all of
 * them are, and the file says something else.
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

const errorOf = (file: string, differences: ReadonlyArray<Difference>, advice: string): SchemaLockError =>
  new SchemaLockError({
    differences,
    message: [`${file}: ${advice}`, ...differences.map(({ _tag, message, of }) => `  ${_tag}: ${of}: ${message}`)].join(
      "\n"
    )
  })

const isMissing = (cause: unknown): boolean => Predicate.hasProperty(cause, "code") && cause.code === "ENOENT"

const parse = Schema.decodeEffect(Schema.fromJsonString(lock.Lock))

/** Reads the file; `undefined` if there is none. */
const read = (file: string): Effect.Effect<lock.Lock | undefined, SchemaLockError> => {
  const unreadable = (error: unknown) => errorOf(file, [], `it cannot be read (${String(error)})`)
  return Effect.tryPromise(() => readFile(file, "utf8")).pipe(
    Effect.catch(({ cause }) => isMissing(cause) ? Effect.undefined : Effect.fail(unreadable(cause))),
    Effect.flatMap((text) => text === undefined ? Effect.undefined : Effect.mapError(parse(text), unreadable))
  )
}

/** The tasks of a group and of flows. */
const tasksOf = (group: TaskGroup.Any, flows: ReadonlyArray<Flow.AnyNamed>): ReadonlyMap<string, Task.Any> =>
  new Map(
    [...flows.flatMap((flow) => [...Interpreter.graph.graphOf(flow).tasks]), ...group.tasks]
      .toSorted(([a], [b]) => a < b ? -1 : 1)
  )

interface Compared {
  readonly file: string
  readonly tasks: ReadonlyMap<string, Task.Any>
  readonly flows: Flows
  readonly locked: lock.Lock | undefined
  readonly differences: ReadonlyArray<Difference>
}

const compare = Effect.fnUntraced(function*(
  group: TaskGroup.Any,
  { file = defaultFile, flows: given = [] }: Options<ReadonlyArray<Flow.AnyNamed>>
): Effect.fn.Return<Compared, SchemaLockError> {
  const tasks = tasksOf(group, given)
  const flows = flowsOf(given)
  const locked = yield* read(file)
  return {
    file,
    tasks,
    flows,
    locked,
    differences: locked === undefined ? [] : yield* differencesOf(tasks, flows, locked)
  }
})

/**
 * What the schemas need: a field that is encrypted needs a keyring, for example.
 *
 * @category utility types
 * @since 0.1.0
 */
export type Requirements<Tasks extends Task.Any, Flows extends ReadonlyArray<Flow.AnyNamed>> =
  | Task.ServicesClient<Tasks>
  | Task.ServicesServer<Tasks>
  | Flow.Services<Flows[number]>

/**
 * Compares the file with the code, and fails if they differ: with a counter-example where something that may be stored is not
 * read any more, and with advice where it is.
 *
 * A payload may change in such a way if `version` is increased and `migrate` reads what is stored.
 *
 * @category running
 * @since 0.1.0
 */
export const check = <Tasks extends Task.Any, const Flows extends ReadonlyArray<Flow.AnyNamed> = readonly []>(
  group: TaskGroup.TaskGroup<Tasks>,
  options: Options<Flows> = {}
): Effect.Effect<void, SchemaLockError, Requirements<Tasks, Flows>> =>
  Effect.flatMap(compare(group, options), ({ differences, file, locked }) => {
    if (locked === undefined) return Effect.fail(errorOf(file, [], "there is none: make one with `SchemaLock.write`"))
    if (differences.length === 0) return Effect.void
    const advice = differences.some(({ _tag }) => _tag === "Breaking")
      ? "what is stored is not read any more; read it, or increase `version` and declare `migrate`"
      : "it is not up to date: write it with `SchemaLock.write`, and commit it"
    return Effect.fail(errorOf(file, differences, advice))
  })

/**
 * Writes the file. It refuses what `check` calls breaking, unless `force` says that nothing of it is stored any more, and a
 * schema that no value can be drawn from: there is nothing to read.
 *
 * @category running
 * @since 0.1.0
 */
export const write = <Tasks extends Task.Any, const Flows extends ReadonlyArray<Flow.AnyNamed> = readonly []>(
  group: TaskGroup.TaskGroup<Tasks>,
  options: Options<Flows> & { readonly force?: boolean | undefined } = {}
): Effect.Effect<ReadonlyArray<Difference>, SchemaLockError, Requirements<Tasks, Flows>> =>
  Effect.flatMap(compare(group, options), ({ differences, file, flows, locked, tasks }) => {
    const broken = differences.filter(({ _tag }) => _tag === "Breaking")
    if (broken.length > 0 && options.force !== true) {
      return Effect.fail(errorOf(file, broken, "what is stored is not read any more; it is not written"))
    }
    return Effect.forEach(
      tasks,
      ([tag, task]) =>
        Effect.map(entryOf(task, locked && lock.own(locked.tasks, tag)), (entry) => [tag, entry] as const)
    ).pipe(
      Effect.mapError((message) =>
        errorOf(
          file,
          [],
          `no sample of ${message}; \`toCodecArbitrary\` of a declaration or \`arbitraryConstraint\` of a check helps to draw some`
        )
      ),
      Effect.flatMap((entries) =>
        Effect.tryPromise({
          try: () => writeFile(file, lock.print({ format: 1, tasks: Object.fromEntries(entries), flows })),
          catch: (error) => errorOf(file, [], `it cannot be written (${String(error)})`)
        })
      ),
      Effect.as(differences)
    )
  })
