/**
 * The store and the model, command by command: same answers, and the same to be seen after each.
 *
 * `DOCKET_MODEL_RUNS`, `DOCKET_MODEL_SEED` and `DOCKET_MODEL_REPLAY` (what a failure prints) choose other sequences.
 */
import type { Docket } from "@effect-docket/dsl"
import { assert, it } from "@effect/vitest"
import { Arbitrary, Cause, Config, Console, Effect, Exit, Layer, Option, Scope } from "effect"
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
  type Kind,
  kinds,
  limits,
  type State
} from "../ModelState.ts"
import { step } from "../StoreModel.ts"
import { arrivals, type Raw, resolve, sequences } from "./commands.ts"
import type { Options } from "./kit.ts"
import { compareAll, Generations, nameOf, payloadOf } from "./visible.ts"

const where = (n: number | undefined) =>
  n === undefined ? [] : [{ field: "n", operator: "equals", values: [n], bigint: false } as const]

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

/** Has a turn settle claims of its own worker alone, and each key once, as workers do: a lazy store may rely on it. */
const own = ({ claims }: State, command: Command, isGone: (worker: number) => boolean): Command => {
  if (command._tag !== "Turn") return command
  const settled = command.settle.filter(({ claim }) => !isGone(claims[claim]!.worker))
  if (settled.length === 0) return { ...command, settle: [] }
  const worker = claims[settled[0]!.claim]!.worker
  const settle = settled.filter(({ claim }) => claims[claim]!.worker === worker)
  const byKey = Map.groupBy(settle, ({ claim }) => claims[claim]!.key)
  return { ...command, worker, settle: Array.from(byKey.values(), ([first]) => first!) }
}

// ---------------------------------------------------------------------------------------------------------------------
// commands
// ---------------------------------------------------------------------------------------------------------------------

/** An attached worker. */
interface Attached {
  readonly session: WorkerSession
  readonly scope: Scope.Closeable
  isGone: boolean
  /** Tokens whose claims were to be cancelled. */
  readonly asked: Set<string>
}

/** Runs a sequence on a docket that is empty. */
const compare = Effect.fnUntraced(function*(
  store: StoredDocket,
  world: World,
  sequence: ReadonlyArray<Raw>,
  count: (what: string, times?: number) => void
) {
  const scope = yield* Effect.scope
  const workers: Array<Attached> = []
  const attach = Effect.fnUntraced(function*(kind: number) {
    const { lease, tasks } = kinds[kind]!
    const own = yield* Scope.fork(scope)
    const session = yield* Scope.provide(
      store.attach({
        worker: nameOf(workers.length),
        tasks: new Map(tasks.map((task) => [task, 1])),
        lanes: ["default"],
        lease,
        gates: new Map(Object.entries(limits)),
        onWake: () => {}
      }),
      own
    )
    workers.push({ session, scope: own, isGone: false, asked: new Set() })
  })
  for (const kind of kinds.keys()) yield* attach(kind)
  yield* world.begin
  const generations = new Generations()
  const claims: Array<Claim> = []
  let state = initial(epoch, world.isLazy)
  /** The workers come for what is due. */
  const visit = Effect.suspend(() =>
    Effect.forEach(kinds.keys(), (kind) => workers[state.workers.lastIndexOf(kind as Kind)]!.session.turn(nothing), {
      discard: true
    })
  )
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
    const { asked, session } = workers[command.worker]!
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
    count("claimed", claimed.length)
    for (const answer of reply.settled) count(answer)
    const cancelled = Array.from(answer.cancelled, (token) => claims[token]!.token)
    if (world.isLazy) {
      for (const token of cancelled) asked.add(token)
      for (const token of cancelTokens) assert.isTrue(asked.has(token), "what was cancelled")
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
        const { redrive } = addition
        const wanted = redrive === undefined ? undefined : generations.of(redrive)
        const added = yield* Effect.result(store.add([additionOf(addition, wanted)], { atomic: true }))
        const answer = ask(command)
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
        if (answer.generation === 0) assert.strictEqual(generation, 0)
        else generations.bind(answer.generation, generation)
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
        const { session } = workers[state.claims[command.claim]!.worker]!
        return assert.deepStrictEqual(yield* session.renew([claim]), [answer as never])
      }
      case "Advance":
        ask(command)
        yield* world.advance(command.millis)
        return yield* world.isLazy ? visit : Effect.void
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
      case "Crash": {
        const crashed = workers[state.workers.lastIndexOf(command.kind)]!
        ask(command)
        yield* attach(command.kind)
        if (command.silent) return
        crashed.isGone = true
        return yield* Scope.close(crashed.scope, Exit.void)
      }
    }
  })

  const isGone = (worker: number) => workers[worker]!.isGone
  /** What a worker had sent is lost with its connection. */
  const isLost = (command: Command) => {
    if (command._tag === "Turn") return isGone(command.worker)
    const claim = command._tag === "Renew" ? state.claims[command.claim] : undefined
    return claim !== undefined && isGone(claim.worker)
  }
  /** What is under way, and before which command it arrives. */
  let sent: Array<{ readonly at: number; readonly command: Command }> = []
  for (let index = 0; index < sequence.length || sent.length > 0; index++) {
    const raw = sequence[index]
    if (raw?._tag === "Late" || raw?._tag === "Twice") count(raw._tag)
    const made = raw && resolve(state, raw)
    const command = made && world.isLazy ? own(state, made, isGone) : made
    if (command !== undefined) { for (const by of arrivals(raw!)) sent.push({ at: index + by, command }) }
    const arrived = sent.filter(({ at }) => at <= index)
    sent = sent.filter(({ at }) => at > index)
    for (const { command } of arrived) {
      if (isLost(command)) continue
      count("commands")
      count(command._tag)
      if (command._tag === "Turn") { for (const { change } of command.settle) count(change._tag) }
      yield* Effect.andThen(perform(command), Effect.suspend(() => compareAll(store, state, generations))).pipe(
        Effect.catchCause((cause) => Effect.fail(`command ${index}, ${JSON.stringify(command)}: ${describe(cause)}`))
      )
    }
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
  runs: Config.option(Config.Int("DOCKET_MODEL_RUNS")),
  seed: Config.option(Config.String("DOCKET_MODEL_SEED")),
  replay: Config.option(Config.String("DOCKET_MODEL_REPLAY"))
})

/** How many sequences, and which. */
export interface Sequences {
  readonly runs: number
  readonly seed: string
  /** The one that failed, which such a text names, and its smaller ones. */
  readonly replay?: Arbitrary.Replay | undefined
}

/** Compares a store with the model, and says what was done. The layer is built anew for each sequence. */
export const check = Effect.fnUntraced(function*(
  layer: Layer.Layer<DocketStore, unknown>,
  { replay, runs, seed }: Sequences,
  options?: Options,
  world: World = promptly
) {
  const environment = DocketEngine.layer({ name: "model" }).pipe(
    Layer.provideMerge(layer),
    Layer.provideMerge(world.isLazy ? Layer.empty : testClock.layer),
    Layer.fresh
  )
  const figures: Record<string, number> = { sequences: runs, commands: 0 }
  const count = (what: string, times = 1) => {
    figures[what] = (figures[what] ?? 0) + times
  }
  const property = (sequence: ReadonlyArray<Raw>) =>
    Effect.gen(function*() {
      const { store } = yield* DocketEngine.DocketEngine
      yield* Effect.scoped(compare(store, world, sequence, count))
      yield* store.resume({ task: undefined, lane: undefined })
      const leaks = options?.leaks === undefined ? [] : yield* options.leaks(store)
      return yield* leaks.length === 0 ? Effect.succeed(true) : Effect.fail(`it leaks: ${leaks.join(", ")}`)
    }).pipe(Effect.provide(environment), Effect.mapError(String))
  const result = yield* Arbitrary.checkEffect(sequences, property, { runs, seed, size: 60, maxShrinks: 2000, replay })
  return { result, figures }
})

/** Registers the test, of a few hundred sequences or those that are wanted. */
export const comparison = (
  name: string,
  layer: Layer.Layer<DocketStore, unknown>,
  options: Options | undefined,
  wanted?: Sequences,
  world: World = promptly
): void => {
  const about = wanted === undefined ? "" : `: ${wanted.seed}`
  const test = world.isLazy ? it.live : it.effect
  test(
    `random commands → the same answers, and the same to be seen, as the model says${about}`,
    () =>
      Effect.gen(function*() {
        const given = yield* settings
        const runs = Option.getOrElse(given.runs, () => wanted?.runs ?? 300)
        const seed = Option.getOrElse(given.seed, () => wanted?.seed ?? "docket")
        const replay = Option.getOrUndefined(given.replay)
        const { figures, result } = yield* check(layer, { runs, seed, replay }, options, world)
        const failure = result._tag === "Falsified" && result.failure._tag === "PropertyError"
          ? result.failure.error
          : ""
        assert.strictEqual(result._tag, "Passed", `${Arbitrary.formatCheckFailure(result)}\n${failure}`)
        // not on the console of the test, which keeps it for itself
        yield* Effect.provideService(
          Console.log(`model of "${name}", seed "${seed}": ${JSON.stringify(figures)}`),
          Console.Console,
          globalThis.console
        )
      }),
    600_000
  )
}
