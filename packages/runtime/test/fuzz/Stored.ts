/**
 * Arbitrary bytes where a store keeps texts: payloads, failures, outcomes, progress and states of flows, under arbitrary keys,
 * tasks and lanes. Whatever is stored, the worker goes on, the runs beside it complete, and what became of a run can be read.
 */
import { Docket, DocketError, Execution, Flow, Progress, Task, TaskGroup } from "@effect-docket/dsl"
import { DocketEngine, type DocketStore } from "@effect-docket/runtime"
import { assert } from "@effect/vitest"
import { Cause, DateTime, Effect, Exit, Option, Queue, Schedule, Schema, Stream } from "effect"
import { decode as decodeEvent } from "../../src/internal/events.ts"
import { attachTo } from "../contract/seam.ts"
import * as Kit from "../Kit.ts"
import type { Chaos } from "./Chaos.ts"

class Refused extends Schema.TaggedError<Refused>()("Refused", { n: Schema.Int }) {}

/** What is fuzzed: it answers, or it refuses negative numbers after a second try. */
export class Job extends Task.make("Job", {
  payload: {
    n: Schema.Int,
    at: Schema.DateTimeUtc.pipe(Schema.withConstructorDefault(Effect.succeed(DateTime.makeUnsafe(0)))),
    more: Schema.optionalKey(Schema.Json)
  },
  success: Schema.Struct({ n: Schema.Int }),
  error: Refused,
  progress: Schema.Struct({ n: Schema.Int }),
  retry: Schedule.recurs(1),
  defectRetryPolicy: Schedule.recurs(1)
}) {}
/** Runs beside it. */
export class Beside extends Task.make("Beside", { payload: { n: Schema.Int }, success: Schema.Int }) {}
export class Jobs extends TaskGroup.make(Job, Beside) {}

/** A flow of every kind of place: steps, a fan-out of branches and one of items. */
export class Steps extends Flow.make(
  "Steps",
  Job.pipe(
    Flow.outcomes({ a: Beside, b: Beside }),
    Flow.map(() => [{ n: 1 }, { n: 2 }]),
    Flow.forEach(Beside)
  )
) {}

export const JobsLive = Jobs.toLayer({
  Job: Effect.fnUntraced(function*({ n }) {
    const { flow } = yield* Execution.CurrentExecution
    assert.isBoolean(Option.isSome(flow))
    yield* Progress.report(Job, { n })
    if (n < 0) return yield* new Refused({ n })
    return { n }
  }),
  Beside: ({ n }) => Effect.succeed(n)
})

const valid = "{\"n\":1,\"at\":\"2020-01-01T00:00:00.000Z\"}"
const success = "{\"_tag\":\"Success\",\"value\":{\"n\":1}}"
const refusal = "{\"_tag\":\"Failure\",\"cause\":[{\"_tag\":\"Fail\",\"error\":{\"_tag\":\"Refused\",\"n\":-1}}]}"
const ended =
  "{\"_tag\":\"Success\",\"value\":1,\"flow\":{\"p\":\"0\",\"u\":[{\"p\":\"0\",\"from\":{\"p\":\"0\",\"e\":\"1\"}}]}}"
const history = JSON.stringify({ texts: [refusal], failures: [[1, 0]], begun: { due: 1, startedAt: 1 } })
const states = [
  "{\"x\":{\"t\":\"step\",\"p\":\"0\"}}",
  "{\"x\":{\"t\":\"step\",\"p\":\"1/0\"},\"s\":\"1\",\"k\":\"f\",\"r\":2,\"l\":[[\"0\",5]],\"c\":[\"1\"]}",
  `{"x":{"t":"go","from":{"p":"0","e":${JSON.stringify(success)}},"past":"1"},"n":[["",{"p":"0","i":"1"}]]}`,
  `{"x":{"t":"stuck","blame":{"p":"0","e":${JSON.stringify(refusal)}}}}`,
  `{"x":{"t":"fan","p":"1","from":{"p":"0","e":${JSON.stringify(success)}},"id":"1","n":2,"next":2}}`,
  "{\"x\":{\"t\":\"restart\"},\"n\":[[\"\",{\"p\":\"0\",\"i\":\"{}\"}]]}",
  "{\"x\":{\"t\":\"undo\",\"i\":0,\"why\":{\"t\":\"cancelled\"}},\"u\":[{\"p\":\"0\",\"from\":{\"p\":\"0\",\"e\":\"1\"}}]}",
  "{\"x\":{\"t\":\"drain\",\"why\":{\"t\":\"cancelled\"},\"fan\":{\"t\":\"fan\",\"p\":\"1\",\"id\":\"1\",\"n\":2,\"next\":2}}}"
]

/** A text that nobody wrote, or almost one of these. */
const near = (chaos: Chaos, texts: ReadonlyArray<string>): string =>
  chaos.pick([chaos.text, chaos.json, () => chaos.mutated(chaos.pick(texts)), () => chaos.pick(texts)])()

const thread = (chaos: Chaos): NonNullable<Docket.EncodedAddition["thread"]> => {
  const state = near(chaos, states)
  const flow = chaos.int(2) === 0 ? undefined : { key: chaos.name(), generation: chaos.int(3) }
  return {
    flow: chaos.int(8) === 0 ? chaos.name() : "Steps",
    version: 1,
    step: chaos.int(3) === 0 ? undefined : near(chaos, ["0", "1", "1/a", "3", "3/0", ""]),
    state,
    deadline: chaos.int(3) === 0 ? 1000 : undefined,
    // one that is ending already cannot be told to end
    onCancel: /undo|drain/.test(state) ? "ignore" : chaos.pick(["end", "interpret"]),
    ...chaos.int(4) === 0 &&
      { parent: { key: chaos.name(), generation: chaos.int(3), gather: chaos.text(), index: chaos.int(5), flow } }
  }
}

/** An addition that no producer of ours makes. */
const addition = (chaos: Chaos): Docket.EncodedAddition => {
  const part = chaos.int(3) === 0 ? thread(chaos) : undefined
  const between = part?.step === undefined && part !== undefined
  return Kit.encoded({
    task: between ? part.flow : chaos.int(8) === 0 ? chaos.name() : chaos.pick(["Job", "Beside"]),
    key: chaos.name(),
    payload: near(chaos, [valid, "{\"n\":-1}"]),
    lane: between ? "" : chaos.int(8) === 0 ? chaos.name() : "default",
    priority: chaos.pick([0, 0, 5, -5]),
    onExisting: chaos.pick(["keep", "replace"]),
    ...part && { thread: part }
  })
}

/** How a worker that writes nonsense settles a run. */
const change = (chaos: Chaos): DocketStore.Change => {
  const exit = near(chaos, [success, refusal, ended])
  return chaos.pick<DocketStore.Change>([
    { _tag: "Completed", exit },
    { _tag: "Failed", exit },
    { _tag: "Retry", after: 0, exit, failures: near(chaos, [history]) },
    { _tag: "Released" }
  ])
}

/** No defect, and no other failure than a `DocketError`. */
export const orderly = <A, E, R>(what: string, effect: Effect.Effect<A, E, R>): Effect.Effect<void, never, R> =>
  Effect.map(Effect.exit(effect), (exit) => {
    if (Exit.isSuccess(exit)) return
    for (const reason of exit.cause.reasons) {
      if (reason._tag === "Fail" && reason.error instanceof DocketError.DocketError) continue
      assert.fail(`${what}: ${Cause.pretty(exit.cause)}`)
    }
  })

/** A worker that writes nonsense, for a moment. */
const tamper = Effect.fnUntraced(function*(chaos: Chaos) {
  const { store } = yield* DocketEngine.DocketEngine
  const worker = yield* attachTo(store, {
    worker: chaos.name(),
    tasks: new Map([["Job", 1], ["Beside", 1]]),
    flows: new Map([["Steps", new Set([1])]])
  })
  const claims = yield* worker.claim(5)
  yield* Effect.forEach(claims, (claim) => store.progress(claim, near(chaos, ["{\"n\":1}"])))
  yield* orderly("reading what runs", Stream.runDrain(Docket.snapshot))
  yield* Effect.forEach(claims, (claim) => worker.settle(claim, change(chaos)))
})

/**
 * Fills a docket with nonsense, lets a worker that writes nonsense at it, then one of ours, and reads everything. `drain`
 * runs a worker until these runs have ended.
 */
export const survive = <E, R>(chaos: Chaos, drain: (keys: ReadonlyArray<string>) => Effect.Effect<unknown, E, R>) =>
  Effect.scoped(Effect.gen(function*() {
    const { store } = yield* DocketEngine.DocketEngine
    const docket = yield* Docket.Docket
    const events = yield* store.subscribe(undefined)
    const additions = Array.from({ length: 10 }, () => addition(chaos))
    yield* store.add(additions, { atomic: false })
    yield* Effect.scoped(tamper(chaos))
    const sane = yield* Docket.addAll([[Beside, { n: 7 }], [Job, { n: 8 }]])
    const isPlain = ({ lane, task, thread }: Docket.EncodedAddition) =>
      thread === undefined && lane === "default" && Jobs.tasks.has(task)
    const others = new Set(additions.filter((addition) => !isPlain(addition)).map(({ key }) => key))
    const keys = Array.from(new Set([...additions, ...sane].map(({ key }) => key)))
    const plain = keys.filter((key) => !others.has(key))
    yield* drain(plain)
    assert.strictEqual(yield* sane[0].await, 7)
    assert.deepStrictEqual(yield* sane[1].await, { n: 8 })
    // what became of the others: one that a worker of ours could take has ended
    for (const key of keys) {
      const run = yield* store.get(key)
      // running: a member that reports to nobody, or another part of a flow that waits
      const rests = ["Completed", "Failed", "Held", "Ready", "Scheduled", "Cancelled"]
      assert.isTrue(run === undefined || rests.includes(run.state), `${JSON.stringify(key)} is ${run?.state}`)
      if (plain.includes(key)) {
        assert.include(["Completed", "Failed"], run?.state, JSON.stringify(key))
      }
      yield* orderly("explaining", docket.explain(key))
      for (const task of [Job, Beside]) {
        const handle = yield* Docket.get(task, key)
        if (Option.isSome(handle)) yield* orderly("polling", handle.value.poll)
      }
      const flow = yield* Docket.get(Steps, key)
      if (Option.isSome(flow)) yield* orderly("polling a flow", flow.value.poll)
      yield* orderly("the steps of a flow", Docket.steps(Steps, key))
    }
    yield* orderly("a snapshot", Stream.runDrain(docket.snapshot))
    for (const task of [Job, Beside]) {
      yield* orderly("dead letters", Stream.runDrain(Docket.deadLetters(task)))
      yield* orderly("a redrive", Docket.redrive(task))
    }
    yield* orderly("dead letters of a flow", Stream.runDrain(Docket.deadLetters(Steps)))
    yield* orderly("a redrive of a flow", Docket.redrive(Steps))
    yield* drain(plain)
    yield* orderly("events", Effect.forEach(yield* Queue.takeAll(events), decodeEvent))
    yield* store.clear
  }))
