/**
 * A random flow through the public combinators, its tasks and their handlers, and what its functions do: these are pure,
 * so the direct evaluation uses the same.
 */
import { Execution, Flow, Task, TaskFailure, TaskGroup } from "@effect-docket/dsl"
import { DateTime, Duration, Effect, Option, Result, Schedule, Schema } from "effect"
import { type Chain, hash, type Spec, type Start, type Step, type TaskName, timeOf, type Wait } from "./spec.ts"

// ---------------------------------------------------------------------------------------------------------------------
// values
// ---------------------------------------------------------------------------------------------------------------------

/** What flows from task to task: `r` is how many rounds are left, `id` who made it. */
export interface Value {
  readonly n: number
  readonly r: number
  readonly id: number
}

const fields = { n: Schema.Int, r: Schema.Int, id: Schema.Int }

export class Boom extends Schema.TaggedError<Boom>("test/Boom")("Boom", fields) {}
export class Bang extends Schema.TaggedError<Bang>("test/Bang")("Bang", fields) {}
export class Even extends Schema.TaggedClass<Even>("test/Even")("Even", fields) {}
export class Odd extends Schema.TaggedClass<Odd>("test/Odd")("Odd", fields) {}

const failureText = ({ reason }: TaskFailure.TaskFailure): string => {
  if (reason._tag === "Timeout") return `Timeout ${Duration.toMillis(reason.limit)}`
  // what is said of a body that always dies if its worker died in the last attempt
  return reason._tag === "Lost" ? "Defect" : reason._tag
}

/** A value or an error as plain data, without what depends on where it came from. */
export const plain = (value: unknown): unknown => {
  if (value instanceof TaskFailure.TaskFailure) return failureText(value)
  if (Option.isOption(value)) return Option.isSome(value) ? { some: plain(value.value) } : "none"
  if (Result.isResult(value)) {
    return Result.isSuccess(value) ? { ok: plain(value.success) } : { bad: plain(value.failure) }
  }
  if (DateTime.isDateTime(value)) return DateTime.toEpochMillis(value)
  if (Array.isArray(value)) return value.map(plain)
  if (typeof value !== "object" || value === null) return value
  const names = ["_tag", ...Object.keys(value).toSorted()]
  return Object.fromEntries(
    names.flatMap((name) => {
      const part: unknown = Reflect.get(value, name)
      // a key says where, and errors of JavaScript say more than they were given
      return part === undefined || ["key", "message", "stack", "cause", "name"].includes(name)
        ? []
        : [[name, plain(part)]]
    })
  )
}

/** A value as a text. */
export const textOf = (value: unknown): string => JSON.stringify(plain(value)) ?? "undefined"

/** A text without the time at which a gather was over. */
export const timeless = (text: string): string => text.replaceAll(/"releasedAt":\d+/g, "")

const numberIn = (value: unknown, name: string): number | undefined => {
  const part: unknown = typeof value === "object" && value !== null ? Reflect.get(value, name) : undefined
  return typeof part === "number" ? part : undefined
}

/** Makes a value of whatever came before. */
export const toValue = (from: unknown, id: number): Value => ({
  n: numberIn(from, "n") ?? hash(timeless(textOf(from))) % 1_000_000,
  r: numberIn(from, "r") ?? 0,
  id
})

const isValue = (value: unknown): boolean => ["n", "r", "id"].every((name) => numberIn(value, name) !== undefined)

/** What a start that takes its input as it is gets. */
export const rawOf = (value: unknown, id: number): unknown => isValue(value) ? value : toValue(value, id)

export const waitOf = ({ computed, id }: Wait, value: unknown): number =>
  computed ? timeOf("wait", id, toValue(value, id).n) : timeOf("wait", id)

export const mapped = (id: number, throws: boolean, value: unknown): unknown => {
  if (throws) throw new Error(`the function ${id} throws`)
  return { n: hash("map", id, timeless(textOf(value))) % 1_000_000, r: toValue(value, id).r }
}

export const tagged = (id: number, value: unknown): { readonly _tag: "Even" | "Odd" } & Value => {
  const made = toValue(value, id)
  return { _tag: made.n % 2 === 0 ? "Even" : "Odd", ...made }
}

export const holds = (id: number, value: unknown): boolean => hash("when", id, toValue(value, id).n) % 3 > 0

export const itemsOf = (id: number, count: number, value: unknown): ReadonlyArray<Value> => {
  const { n, r } = toValue(value, id)
  return Array.from({ length: count }, (_, i) => ({ n: hash("item", id, n, i) % 1_000_000, r, id }))
}

export const rounds = (id: number, value: unknown): { readonly _tag: "More" | "Stop" } & Value => {
  const made = toValue(value, id)
  return { _tag: made.r > 0 ? "More" : "Stop", ...made }
}

export const lessOne = ({ id, n, r }: Value): Value => ({ id, n: hash("round", n) % 1_000_000, r: r - 1 })

// ---------------------------------------------------------------------------------------------------------------------
// bodies
// ---------------------------------------------------------------------------------------------------------------------

/** How long after an error with a rule, and after a defect, a task is tried again, and how often. */
export const retries = { error: { after: 1_234_567, times: 2 }, defect: { after: 2_345_678, times: 1 } } as const

/** How one attempt of a body ends. */
export type Fate = "ok" | "Boom" | "Bang" | "defect"

/** What the bodies of a flow do. */
export interface Bodies {
  readonly bad: number
  readonly instant: boolean
  /** Tasks of compensations, which take time in any case. */
  readonly undoing: ReadonlySet<number>
  /** What does not succeed at once never does: workers that die make attempts more. */
  readonly steady: boolean
}

export const fateOf = ({ bad, steady }: Bodies, task: TaskName, { id, n }: Value, attempt: number): Fate => {
  const chance = hash("fate", task, id, n)
  if (chance % 100 >= bad) return "ok"
  const kind = (chance >>> 8) % 7
  // the first ones fail for good, the others for so many attempts
  const until = kind < 4 ? Infinity : steady ? 0 : (chance >>> 16) % 4
  if (attempt > until) return "ok"
  if (task === "Decide" || kind === 3 || kind === 6) return "defect"
  return kind % 2 === 0 ? "Boom" : "Bang"
}

export const durationOf = ({ instant, undoing }: Bodies, { id, n }: Value, attempt: number): number =>
  instant && !undoing.has(id) ? 0 : timeOf("body", id, n, attempt)

export const successOf = (task: TaskName, { id, n, r }: Value): Value | Even | Odd => {
  const made = { n: hash("success", task, id, n) % 1_000_000, r, id }
  return task !== "Decide" ? made : made.n % 2 === 0 ? new Even(made) : new Odd(made)
}

/** How a body looks in the list of bodies that have begun. */
export const bodyText = (at: number, task: string, { id, n, r }: Value, attempt: number): string =>
  `${String(at).padStart(12)} ${task} ${id}: ${n} ${r}${attempt === 1 ? "" : ` attempt ${attempt}`}`

export class Work extends Task.make("Work", {
  payload: fields,
  success: Schema.Struct(fields),
  error: Schema.Union([Boom, Bang])
}) {}
export class Flaky extends Task.make("Flaky", {
  payload: fields,
  success: Schema.Struct(fields),
  error: Schema.Union([Boom, Bang]),
  retry: Schedule.spaced(retries.error.after).pipe(Schedule.upTo({ times: retries.error.times }))
}) {}
export class Decide extends Task.make("Decide", { payload: fields, success: Schema.Union([Even, Odd]) }) {}
export class Poll extends Task.make("Poll", {
  payload: { ...fields, times: Schema.Int },
  success: Schema.Struct({ _tag: Schema.Literals(["More", "Stop"]), ...fields })
}) {}
export class Tasks extends TaskGroup.make(Work, Flaky, Decide, Poll) {}

/** What a worker does after defects. */
export const defectRetryPolicy = Schedule.spaced(retries.defect.after).pipe(
  Schedule.upTo({ times: retries.defect.times })
)

/** The handlers; `note` hears of each body that begins, with the key of its flow. */
export const handlers = (
  bodiesOf: (id: number) => Bodies,
  note: (flow: string, task: string, value: Value, attempt: number) => Effect.Effect<void>
) => {
  const polled = new Map<string, Array<string>>()
  const begin = (task: string, value: Value) =>
    Effect.flatMap(
      Execution.CurrentExecution,
      ({ attempt, flow }) => Effect.as(note(Option.getOrThrow(flow).key, task, value, attempt), attempt)
    )
  const body = Effect.fnUntraced(function*(task: TaskName, value: Value) {
    const bodies = bodiesOf(value.id)
    const attempt = yield* begin(task, value)
    const duration = durationOf(bodies, value, attempt)
    if (duration > 0) yield* Effect.sleep(duration)
    switch (fateOf(bodies, task, value, attempt)) {
      case "ok":
        return successOf(task, value)
      case "Boom":
        return yield* new Boom(value)
      case "Bang":
        return yield* new Bang(value)
      case "defect":
        return yield* Effect.die(new Error("a defect"))
    }
  })
  return Tasks.toLayer({
    Work: (value) => body("Work", value),
    Flaky: (value) => body("Flaky", value),
    // it has no declared errors: `fateOf`
    Decide: (value) => Effect.map(Effect.orDie(body("Decide", value)), (made) => made as Even | Odd),
    Poll: Effect.fnUntraced(function*({ times, ...value }) {
      const { key } = yield* Execution.CurrentExecution
      const duration = durationOf(bodiesOf(value.id), value, 1)
      yield* begin("Poll", value)
      if (duration > 0) yield* Effect.sleep(duration)
      const step = key.replace(/~\d+$/, "")
      const rounds = polled.get(step) ?? []
      // a body that is repeated says the same again
      const asked = rounds.includes(key) ? rounds.indexOf(key) : rounds.push(key) - 1
      polled.set(step, rounds)
      return { _tag: asked < times ? "More" as const : "Stop" as const, ...value }
    })
  })
}

// ---------------------------------------------------------------------------------------------------------------------
// definitions
// ---------------------------------------------------------------------------------------------------------------------

// What is built is typed by what it is made of, and that is not known here: everything takes and gives what it may.
type AnyFlow = Flow.Flow<never, unknown, never, "Work" | "Flaky" | "Decide" | "Poll">
const asFlow = (flow: unknown): AnyFlow => flow as AnyFlow
const asStep = (flow: AnyFlow) => flow as unknown as Flow.Flow<unknown, unknown, never, never>

const taskOf = { Work, Flaky, Decide }

const start = (one: Start): AnyFlow => {
  const { id } = one
  switch (one._tag) {
    case "Input":
      return asFlow(Flow.input(Schema.Struct(fields)).pipe(Flow.mapInput((value: unknown) => toValue(value, id))))
    case "Named":
      return asFlow(Flow.make(`N${id}`, asStep(chainOf(one.chain))))
    case "Task": {
      const task = asFlow(Flow.task(taskOf[one.task]))
      return asFlow(
        Flow.mapInput(asStep(task), (value: unknown) => one.raw ? rawOf(value, id) : toValue(value, id))
      )
    }
  }
}

const wait = (one: Wait) => one.computed ? (value: unknown) => waitOf(one, value) : waitOf(one, undefined)

const named = (chains: ReadonlyArray<readonly [string, Chain]>): Record<string, Flow.Flow<unknown, unknown>> =>
  Object.fromEntries(chains.map(([name, chain]) => [name, asStep(chainOf(chain))]))

const branches = (chains: ReadonlyArray<Chain>) => named(chains.map((chain, i) => [`b ${i}`, chain]))

const next = (self: Flow.Flow<unknown, unknown>, step: Step): unknown => {
  switch (step._tag) {
    case "Then":
      return step.mapped
        ? self.pipe(Flow.andThen(asStep(chainOf(step.chain)), (value: unknown) => toValue(value, step.id)))
        : Flow.andThen(self, asStep(chainOf(step.chain)))
    case "Map":
      return self.pipe(Flow.map((value) => mapped(step.id, step.throws, value)))
    case "Sleep":
      return Flow.sleep(self, wait(step.wait))
    case "Match":
      return self.pipe(
        Flow.map((value) => tagged(step.id, value)),
        (self) => Flow.match(self as never, named([["Even", step.even], ["Odd", step.odd]]) as never)
      )
    case "When":
      return Flow.when(self, (value) => holds(step.id, value), asStep(chainOf(step.chain)))
    case "All":
      return Flow.all(self, branches(step.branches) as never)
    case "Outcomes":
      return Flow.outcomes(self, branches(step.branches) as never)
    case "ForEach": {
      const { concurrency, count, deadline, id, jitter, onRelease, over, policy } = step
      const items = (value: unknown) => itemsOf(id, count, value)
      const options = { policy, deadline, over, jitter, concurrency, onRelease }
      const chain = asStep(chainOf(step.chain))
      return step.computed
        ? Flow.forEach(self as never, chain, { ...options, items } as never)
        : Flow.forEach(Flow.map(self, items) as never, chain, options as never)
    }
    case "Catch": {
      const [first] = step.handlers
      if (step.handlers.length > 1 || first === undefined) {
        return Flow.catchTags(self as never, named(step.handlers) as never)
      }
      const handler = asStep(chainOf(first[1]))
      return step.mapped
        ? Flow.catchTag(self as never, first[0] as never, handler, (error: unknown) => toValue(error, step.id))
        : Flow.catchTag(self as never, first[0] as never, handler as never)
    }
    case "Compensate": {
      const undo = asStep(chainOf(step.chain))
      return step.mapped
        ? Flow.compensate(self, undo, (value) => toValue(value, step.id))
        : Flow.compensate(self, undo)
    }
    case "Deadline":
      return Flow.deadline(self, step.limit)
    case "Rounds": {
      const after = wait(step.wait)
      return Flow.match(
        Flow.map(self, (value) => rounds(step.wait.id, value)) as never,
        {
          More: Flow.again({ after: after as number, input: lessOne }),
          Stop: Flow.input(Schema.Struct(fields))
        } as never
      )
    }
    case "Poll": {
      const poll = Flow.mapInput(
        Flow.task(Poll),
        (value: unknown) => ({ ...toValue(value, step.id), times: step.times })
      )
      return Flow.match(
        Flow.andThen(self, poll) as never,
        {
          More: Flow.again({ after: waitOf({ ...step.wait, computed: false }, undefined) }),
          Stop: Flow.input(Schema.Struct(fields))
        } as never
      )
    }
  }
}

const chainOf = (chain: Chain): AnyFlow =>
  asFlow(
    chain.steps.reduce<Flow.Flow<unknown, unknown>>(
      (self, step) => next(self, step) as never,
      asStep(start(chain.start)) as never
    )
  )

/** The flow. */
export const flowOf = (spec: Spec) =>
  Flow.make(spec.name, asStep(chainOf(spec.chain)) as never) as unknown as Flow.Named<
    string,
    Value,
    unknown,
    unknown,
    "Work" | "Flaky" | "Decide" | "Poll"
  >
