/**
 * The store and the model, command by command: same answers, and the same to be seen after each.
 *
 * `DOCKET_MODEL_RUNS`, `DOCKET_MODEL_SEED` and `DOCKET_MODEL_REPLAY` (what a failure prints) choose other sequences.
 */
import type { Docket } from "@effect-docket/dsl"
import { assert, it } from "@effect/vitest"
import { Arbitrary, Cause, Config, Effect, Layer, Option, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as DocketEngine from "../../src/DocketEngine.ts"
import type { Claim, DocketStore, StoredDocket, TurnRequest, WorkerSession } from "../../src/DocketStore.ts"
import * as testClock from "../../src/internal/testClock.ts"
import {
  type Addition,
  type Answer,
  type Command,
  gatesOf,
  initial,
  isPaused,
  isStruck,
  limits,
  mayBeHeld,
  type Run,
  type State,
  type TaskName,
  workers
} from "../ModelState.ts"
import { step } from "../StoreModel.ts"
import { keys, type Raw, resolve, sequences } from "./commands.ts"
import type { Options } from "./kit.ts"

const tasks: ReadonlyArray<TaskName> = ["a", "b", "c"]
const payloadOf = (n: number) => JSON.stringify({ n })
const nameOf = (worker: number) => `w${worker}`
const where = (n: number | undefined) =>
  n === undefined ? [] : [{ field: "n", operator: "equals", values: [n], bigint: false } as const]

/** The generations of the store by those of the model. */
class Generations {
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

const additionOf = (addition: Addition, redrive: number | undefined): Docket.EncodedAddition => ({
  ...addition,
  gates: gatesOf(addition),
  version: 1,
  payload: payloadOf(addition.n),
  due: { after: addition.after },
  lane: "default",
  redrive
})

/** How a store lives in the time of the model. */
export interface World {
  /** Sets the time to when the model begins. */
  readonly begin: Effect.Effect<void>
  readonly advance: (millis: number) => Effect.Effect<void>
  /**
   * Nothing runs in the store: what is due, and leases that end, wait for the turn of a worker that serves the task; and
   * workers hear of cancels and of what nobody serves a little later.
   */
  readonly isLazy: boolean
}

/** When the model begins. */
export const epoch = Date.UTC(2026, 0, 1)

const promptly: World = { begin: TestClock.setTime(epoch), advance: TestClock.adjust, isLazy: false }

const pending: ReadonlySet<string> = new Set(["Ready", "Held", "Running"])
type Turned = Extract<Answer, { readonly claimed: unknown }>

const nothing = { settle: [], lanes: undefined, except: undefined, capacity: 0 } as const

/** The workers come for what is due. */
const visit = (sessions: ReadonlyArray<WorkerSession>) =>
  Effect.forEach(sessions, (session) => session.turn(nothing), { discard: true })

/** Has a turn settle claims of its own worker alone, and each key once, as workers do: a lazy store may rely on it. */
const own = ({ claims }: State, command: Command): Command => {
  if (command._tag !== "Turn" || command.settle.length === 0) return command
  const worker = claims[command.settle[0]!.claim]!.worker
  const settle = command.settle.filter(({ claim }) => claims[claim]!.worker === worker)
  const byKey = Map.groupBy(settle, ({ claim }) => claims[claim]!.key)
  return { ...command, worker, settle: Array.from(byKey.values(), ([first]) => first!) }
}

// ---------------------------------------------------------------------------------------------------------------------
// what is to be seen
// ---------------------------------------------------------------------------------------------------------------------

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

const compareAll = Effect.fnUntraced(function*(store: StoredDocket, state: State, generations: Generations) {
  for (const key of keys) yield* compareRun(store, state, key, generations)
  const runs = Array.from(state.runs.values())
  const open = runs.filter(isOpen).toSorted((a, b) => a.due - b.due || a.generation - b.generation)
  assert.deepStrictEqual(
    (yield* Stream.runCollect(store.snapshot)).map(({ key }) => key),
    open.map(({ key }) => key),
    "the snapshot"
  )
  const counts = yield* store.counts
  for (const task of tasks) {
    const count = (which: string) => open.filter((run) => run.task === task && shown(state, run) === which).length
    const expected = [count("Scheduled"), count("Ready") + count("Held"), count("Running")]
    const { held, ready, running, scheduled } = counts.find((one) => one.task === task) ??
      { scheduled: 0, ready: 0, held: 0, running: 0 }
    assert.deepStrictEqual([scheduled, ready + held, running], expected, `the counts of ${task}`)
    if (!open.some((run) => run.task === task && mayBeHeld(run))) {
      assert.strictEqual(held, count("Held"), `the held ones of ${task}`)
    }
    const letters = yield* Stream.runCollect(store.deadLetters(task))
    const failed = runs.filter((run) => run.task === task && run.state === "Failed")
    assert.deepStrictEqual(
      letters.map(({ exit, key, payload }) => [key, payload, exit]).toSorted(),
      failed.map((run) => [run.key, payloadOf(run.n), "failure"]).toSorted(),
      `the dead letters of ${task}`
    )
  }
})

// ---------------------------------------------------------------------------------------------------------------------
// commands
// ---------------------------------------------------------------------------------------------------------------------

/** Runs a sequence on a docket that is empty. */
const compare = Effect.fnUntraced(function*(store: StoredDocket, world: World, sequence: ReadonlyArray<Raw>) {
  const sessions: Array<WorkerSession> = []
  for (const [index, { lease, tasks }] of workers.entries()) {
    const served = new Map(tasks.map((task) => [task, 1]))
    sessions.push(
      yield* store.attach({
        worker: nameOf(index),
        tasks: served,
        lanes: ["default"],
        lease,
        gates: new Map(Object.entries(limits)),
        onWake: () => {}
      })
    )
  }
  yield* world.begin
  const generations = new Generations()
  const claims: Array<Claim> = []
  let state = initial(epoch, world.isLazy)
  /** Tokens whose claims were to be cancelled, by worker. */
  const asked = workers.map(() => new Set<string>())
  const ask = (command: Command) => {
    const [next, answer] = step(state, command)
    state = next
    return answer
  }

  /** What the store has done in a turn, as far as the model leaves it the choice. */
  const doneBy = Effect.fnUntraced(function*(claimed: ReadonlyArray<Claim>) {
    const skipped: Array<string> = []
    for (const { gates, key } of state.runs.values()) {
      if (gates === "none") continue
      const stored = yield* store.get(key)
      if (stored === undefined || !pending.has(stored.state)) skipped.push(key)
    }
    return { claimed: claimed.map(({ key }) => key), skipped }
  })
  const answerOf = (command: Extract<Command, { readonly _tag: "Turn" }>, claimed: ReadonlyArray<Claim>) =>
    Effect.map(doneBy(claimed), (done) => step(state, { ...command, done })[1] as Turned) // of a turn

  const turn = Effect.fnUntraced(function*(command: Extract<Command, { readonly _tag: "Turn" }>) {
    const settle: TurnRequest["settle"] = command.settle.map(({ change, claim, successor }) => {
      const { generation, key, token } = claims[claim]!
      const next = successor && { due: { after: successor.after }, payload: payloadOf(successor.n), version: 1 }
      return { key, generation, token, change, successor: next }
    })
    const session = sessions[command.worker]!
    const reply = yield* session.turn({ settle, capacity: command.capacity, lanes: undefined, except: undefined })
    const claimed = Array.from(reply.claimed)
    const cancelTokens = new Set(reply.cancelled)
    let asking = yield* answerOf(command, claimed)
    // what a gate lets through again while a turn claims is for the next turn, which follows at once
    for (let more = 0; !asking.isFull && more < 3; more++) {
      const next = yield* session.turn({ ...nothing, capacity: command.capacity - claimed.length })
      claimed.push(...next.claimed)
      for (const token of next.cancelled) cancelTokens.add(token)
      asking = yield* answerOf(command, claimed)
    }
    const answer = ask({ ...command, done: yield* doneBy(claimed) }) as Turned // of a turn
    assert.isTrue(answer.isFull, "what there is to claim was claimed")
    const expected = answer.claimed.map((token) => {
      const { key } = state.claims[token]!
      const { attempt, due, failures, lost, n, task } = state.runs.get(key)!
      const droppedBy = answer.dropped.has(token) ? "rateLimit" as const : undefined
      return {
        key,
        task,
        version: 1,
        payload: payloadOf(n),
        attempt,
        lost,
        failures,
        due,
        startedAt: state.now,
        droppedBy
      }
    })
    assert.deepStrictEqual(
      claimed.map(({ attempt, droppedBy, due, failures, key, lost, payload, startedAt, task, version }) => ({
        key,
        task,
        version,
        payload,
        attempt,
        lost,
        failures,
        due,
        startedAt,
        droppedBy
      })),
      expected,
      "what was claimed"
    )
    claimed.forEach((claim, i) => {
      generations.bind(state.claims[answer.claimed[i]!]!.generation, claim.generation)
      claims.push(claim)
    })
    assert.deepStrictEqual(reply.settled, answer.settled, "what was settled")
    const cancelled = Array.from(answer.cancelled, (token) => claims[token]!.token)
    if (world.isLazy) {
      for (const token of cancelled) asked[command.worker]!.add(token)
      for (const token of cancelTokens) assert.isTrue(asked[command.worker]!.has(token), "what was cancelled")
    } else {
      assert.deepStrictEqual(cancelTokens, new Set(cancelled), "what was cancelled")
      assert.strictEqual(
        reply.unserved.reduce((sum, { count }) => sum + count, 0),
        answer.unserved,
        "what nobody serves"
      )
    }
    assert.strictEqual(reply.now, state.now)
  })

  const perform = Effect.fnUntraced(function*(command: Command) {
    switch (command._tag) {
      case "Turn":
        return yield* turn(command)
      case "Add": {
        const { addition } = command
        const known = state.runs.get(addition.key)
        const redrive = addition.redrive && known !== undefined
        const latest = redrive ? generations.of(known.generation) : undefined
        const wanted = known?.state === "Failed" ? latest : redrive ? -1 : undefined
        const added = yield* Effect.result(store.add([additionOf(addition, wanted)], { atomic: true }))
        const answer = ask({ _tag: "Add", addition: { ...addition, redrive } })
        if (added._tag === "Failure") {
          return assert.deepStrictEqual({ exists: addition.key, reason: added.failure.reason._tag }, {
            ...Object(answer),
            reason: "KeyExists"
          })
        }
        const [{ disposition, due, generation }] = added.success as readonly [Docket.EncodedAdded] // one addition, one answer
        if (typeof answer !== "object" || !("disposition" in answer)) {
          return assert.fail(`added, not refused: ${JSON.stringify(answer)}`)
        }
        assert.strictEqual(disposition, answer.disposition, "what was added")
        assert.strictEqual(due, answer.due, "when it is due")
        assert.strictEqual(added.success[0]!.key, answer.key, "what was joined")
        if (disposition !== "Struck" && disposition !== "Limited") generations.bind(answer.generation, generation)
        return
      }
      case "Cancel":
        return assert.strictEqual(yield* store.cancel(command.key), ask(command))
      case "Renew":
      case "Progress": {
        const claim = claims[command.claim]
        const answer = ask(command)
        if (claim === undefined) return
        if (command._tag === "Progress") return assert.strictEqual(yield* store.progress(claim, "1"), answer)
        const session = sessions[state.claims[command.claim]!.worker]!
        return assert.deepStrictEqual(yield* session.renew([claim]), [answer as never])
      }
      case "Advance":
        ask(command)
        yield* world.advance(command.millis)
        return yield* world.isLazy ? visit(sessions) : Effect.void
      case "Strike": {
        const { n, task, until } = command
        ask(command)
        return yield* store.strike({ task, where: where(n), reason: "struck", until: until && state.now + until })
      }
      case "Restore":
        ask(command)
        return yield* store.restore({ task: command.task, where: where(command.n) })
      case "Pause":
        ask(command)
        return yield* store.pause({ task: command.task, lane: undefined }, "paused")
      case "Resume":
        ask(command)
        return yield* store.resume({ task: command.task, lane: undefined })
      case "Clear":
        return assert.strictEqual(yield* store.clear, ask(command))
    }
  })

  for (const [index, raw] of sequence.entries()) {
    const command = world.isLazy ? own(state, resolve(state, raw)) : resolve(state, raw)
    yield* Effect.andThen(perform(command), Effect.suspend(() => compareAll(store, state, generations))).pipe(
      Effect.catchCause((cause) => Effect.fail(`command ${index}, ${JSON.stringify(command)}: ${describe(cause)}`))
    )
  }
})

const describe = (cause: Cause.Cause<unknown>): string => {
  const error = Cause.squash(cause)
  const values = typeof error === "object" && error !== null && "actual" in error && "expected" in error
    ? `\n  store: ${JSON.stringify(error.actual)}\n  model: ${JSON.stringify(error.expected)}`
    : ""
  return `${error instanceof Error ? error.message : String(error)}${values}`
}

const settings = Config.all({
  runs: Config.withDefault(Config.Int("DOCKET_MODEL_RUNS"), 300),
  seed: Config.withDefault(Config.String("DOCKET_MODEL_SEED"), "docket"),
  replay: Config.option(Config.String("DOCKET_MODEL_REPLAY"))
})

/** Registers the test. The layer is built anew for each sequence. */
export const comparison = (
  layer: Layer.Layer<DocketStore, unknown>,
  options: Options | undefined,
  world: World = promptly
): void => {
  const environment = DocketEngine.layer({ name: "model" }).pipe(
    Layer.provideMerge(layer),
    Layer.provideMerge(world.isLazy ? Layer.empty : testClock.layer),
    Layer.fresh
  )
  const property = (sequence: ReadonlyArray<Raw>) =>
    Effect.gen(function*() {
      const { store } = yield* DocketEngine.DocketEngine
      yield* Effect.scoped(compare(store, world, sequence))
      yield* store.resume({ task: undefined, lane: undefined })
      const leaks = options?.leaks === undefined ? [] : yield* options.leaks(store)
      return yield* leaks.length === 0 ? Effect.succeed(true) : Effect.fail(`it leaks: ${leaks.join(", ")}`)
    }).pipe(Effect.provide(environment), Effect.mapError(String))
  const test = world.isLazy ? it.live : it.effect
  test(
    "random commands → the same answers, and the same to be seen, as the model says",
    () =>
      Effect.gen(function*() {
        const { replay, runs, seed } = yield* settings
        const result = yield* Arbitrary.checkEffect(sequences, property, {
          runs,
          seed,
          size: 60,
          maxShrinks: 2000,
          replay: Option.getOrUndefined(replay)
        })
        const failure = result._tag === "Falsified" && result.failure._tag === "PropertyError"
          ? result.failure.error
          : ""
        assert.strictEqual(result._tag, "Passed", `${Arbitrary.formatCheckFailure(result)}\n${failure}`)
      }),
    600_000
  )
}
