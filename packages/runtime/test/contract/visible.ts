/**
 * What is to be seen of a store, compared with what the model says.
 */
import type { Docket } from "@effect-docket/dsl"
import { assert } from "@effect/vitest"
import { Effect, Stream } from "effect"
import type { StoredDocket } from "../../src/DocketStore.ts"
import { isPaused, isStruck, mayBeHeld, type Run, type State, type TaskName } from "../ModelState.ts"
import { keys } from "./commands.ts"

const tasks: ReadonlyArray<TaskName> = ["a", "b", "c"]

const together = { concurrency: "unbounded" } as const

/** A payload, as it is stored. */
export const payloadOf = (n: number) => JSON.stringify({ n })

/** The name of a worker. */
export const nameOf = (worker: number) => `w${worker}`

/** The generations of the store by those of the model. */
export class Generations {
  readonly #byModel = new Map<number, number>()

  of(generation: number): number {
    return this.#byModel.get(generation) ?? -1
  }

  bind(model: number, stored: number): void {
    const known = this.#byModel.get(model)
    if (known !== undefined) return assert.strictEqual(stored, known, "the generation")
    for (const [older, other] of this.#byModel) {
      if (older < model) assert.isAbove(stored, other, "a later generation is greater")
    }
    this.#byModel.set(model, stored)
  }
}

const isHeld = (state: State, { task }: Run) => isPaused(state, task) || task === "c"

// when a store finds out that a gate holds a run is its own affair
const shown = (state: State, run: Run) =>
  mayBeHeld(run) ? "Held" : run.state === "Ready" && isHeld(state, run) ? "Held" : run.state

const explanation = (state: State, run: Run | undefined): ReadonlyArray<Docket.Explanation["_tag"]> => {
  if (run === undefined) return ["Unknown"]
  if (run.state === "Running") return ["Running"]
  if (!isOpen(run)) return ["Finished"]
  if (isStruck(state, run)) return ["Struck"]
  if (run.state === "Scheduled") {
    const settling = state.settling.get(run.task)
    if (settling?.key === run.key && settling.waits) return ["Limited"]
    return [run.failures === undefined ? "NotDue" : "Retrying"]
  }
  if (isPaused(state, run.task)) return ["Paused"]
  const idle = run.task === "c" ? "NoWorker" : "Waiting"
  return mayBeHeld(run) ? [idle, "Limited"] : [idle]
}

const isOpen = ({ state }: Run) => state === "Scheduled" || state === "Ready" || state === "Held" || state === "Running"

const compareRun = Effect.fnUntraced(
  function*(store: StoredDocket, state: State, key: string, generations: Generations) {
    const run = state.runs.get(key)
    const stored = yield* store.get(key)
    assert.include(explanation(state, run), (yield* store.explain(key))._tag, `explain ${key}`)
    if (run === undefined || stored === undefined) {
      assert.strictEqual(stored?.state, run?.state, `the state of ${key}`)
      assert.deepStrictEqual(yield* store.outcome(key, 1), { _tag: "Gone" })
      return
    }
    generations.bind(run.generation, stored.generation)
    const { generation: _, payload, ...rest } = stored
    const state_ = mayBeHeld(run) && stored.state === "Ready" ? "Held" : stored.state
    assert.deepStrictEqual({ ...rest, state: state_ }, {
      task: run.task,
      version: 1,
      key,
      state: shown(state, run) as Docket.EncodedRun["state"], // what is known is not `None`
      due: run.due,
      attempt: run.attempt,
      worker: run.state === "Running" ? nameOf(run.worker) : undefined,
      progress: run.progress
    }, `get ${key}`)
    if (isOpen(run)) assert.strictEqual(payload, payloadOf(run.n), `the payload of ${key}`)
    const latest = run.outcomeGeneration === run.generation ? run.outcome : undefined
    assert.deepStrictEqual(yield* store.outcome(key, stored.generation), latest, `the outcome of ${key}`)
    // a lazy store keeps it for its retention, others for as long as there is a run
    if (run.outcome !== undefined && (!state.isLazy || state.now < run.outcomeUntil)) {
      const earlier = generations.of(run.outcomeGeneration)
      assert.deepStrictEqual(yield* store.outcome(key, earlier), run.outcome, `the earlier outcome of ${key}`)
    }
  }
)

/** Everything that is to be seen of each key and each task. */
export const compareAll = Effect.fnUntraced(function*(store: StoredDocket, state: State, generations: Generations) {
  // what is read at once crosses a network once
  const [snapshot, counts, deadLetters] = yield* Effect.all([
    Stream.runCollect(store.snapshot),
    store.counts,
    Effect.forEach(tasks, (task) => Stream.runCollect(store.deadLetters(task)), together),
    Effect.forEach(keys, (key) => compareRun(store, state, key, generations), together)
  ], together)
  const runs = Array.from(state.runs.values())
  const open = runs.filter(isOpen).toSorted((a, b) => a.due - b.due || a.generation - b.generation)
  assert.deepStrictEqual(
    snapshot.map(({ key }) => key),
    open.map(({ key }) => key),
    "the snapshot"
  )
  for (const [index, task] of tasks.entries()) {
    const count = (which: string) => open.filter((run) => run.task === task && shown(state, run) === which).length
    const expected = [count("Scheduled"), count("Ready") + count("Held"), count("Running")]
    const { held, ready, running, scheduled } = counts.find((one) => one.task === task) ??
      { scheduled: 0, ready: 0, held: 0, running: 0 }
    assert.deepStrictEqual([scheduled, ready + held, running], expected, `the counts of ${task}`)
    if (!open.some((run) => run.task === task && mayBeHeld(run))) {
      assert.strictEqual(held, count("Held"), `the held ones of ${task}`)
    }
    const letters = deadLetters[index]!
    const failed = runs.filter((run) => run.task === task && run.state === "Failed")
    assert.deepStrictEqual(
      letters.map(({ exit, key, payload }) => [key, payload, exit]).toSorted(),
      failed.map((run) => [run.key, payloadOf(run.n), "failure"]).toSorted(),
      `the dead letters of ${task}`
    )
  }
})
