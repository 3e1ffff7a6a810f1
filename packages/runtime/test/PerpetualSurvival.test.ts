/**
 * A chain of a perpetual task survives every outcome but cancel, with exactly one successor: all outcomes of a run, and
 * all points at which its worker may die.
 */
import { Docket, Perpetual, Retry, Task, TaskGroup } from "@effect-docket/dsl"
import { type DocketStore, Worker } from "@effect-docket/runtime"
import { assert, describe, it, vi } from "@effect/vitest"
import { Arbitrary, Clock, Effect, Layer, Schedule, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as Kit from "./Kit.ts"

// the tests of a file run side by side, and some of them think for seconds
vi.setConfig({ testTimeout: 120_000 })

const second = 1000
const minute = 60 * second
const hour = 60 * minute

class Boom extends Schema.TaggedError<Boom>()("Boom", { verdict: Schema.Literals(["end", "again", "later"]) }) {}
class Flaky extends Schema.TaggedError<Flaky>()("Flaky", {}) {}

class Tick extends Task.make("Tick", {
  payload: { n: Schema.Int.pipe(Schema.withConstructorDefault(Effect.succeed(0))) },
  success: Schema.NonEmptyString,
  error: Schema.Union([Boom, Flaky]),
  retry: {
    Boom: ({ verdict }) =>
      verdict === "again" ? Retry.after(0) : verdict === "later" ? Retry.snooze("3 seconds") : Retry.never,
    Flaky: Schedule.recurs(1)
  },
  defectRetryPolicy: Schedule.recurs(1),
  timeout: "5 seconds",
  retention: 0,
  perpetual: { every: "1 hour", automatic: true }
}) {}
class Ticks extends TaskGroup.make(Tick) {}

type Body = Effect.Effect<
  string,
  Boom | Flaky,
  Perpetual.Perpetual | Task.HandlerServices | Docket.Docket | Docket.Enqueue<"Tick">
>

const ok = Effect.succeed("ok")
const boom = (verdict: Boom["verdict"]) => Effect.fail(new Boom({ verdict }))
const perpetual = (f: (service: Perpetual.Perpetual["Service"]) => Effect.Effect<void>) => Perpetual.Perpetual.use(f)

interface Outcome {
  /** What the body asks for, before a worker may die in its middle. */
  readonly asks?: Effect.Effect<void, never, Perpetual.Perpetual | Docket.Docket | Docket.Enqueue<"Tick">>
  /** What it does then; `start` counts from 1 in each cycle. */
  readonly body: (start: number) => Body
  /** How often it starts when nobody dies. */
  readonly starts: number
  /** What comes next, in milliseconds from its start: nothing, or one run. Default: an hour. */
  readonly next?: "nothing" | number
}

const twentyMinutes = 20 * minute

const outcomes = {
  "success": { body: () => ok, starts: 1 },
  "a typed failure": { body: () => boom("end"), starts: 1 },
  "a typed failure, then success": { body: (start) => start === 1 ? boom("again") : ok, starts: 2 },
  "a typed failure until its retries are exhausted": { body: () => Effect.fail(new Flaky()), starts: 2 },
  "a snooze": { body: (start) => start === 1 ? boom("later") : ok, starts: 2 },
  "a defect": { body: () => Effect.die("boom"), starts: 2 },
  "a timeout": { body: () => Effect.never, starts: 2 },
  "a success that cannot be encoded": { body: () => Effect.succeed(""), starts: 2 },
  "released at shutdown": { body: (start) => start === 1 ? Effect.never : ok, starts: 2 },
  "replaced while it runs": {
    asks: Effect.asVoid(Effect.orDie(Docket.replace(Tick, {}, { key: "Tick", after: twentyMinutes }))),
    body: () => ok,
    starts: 1,
    next: twentyMinutes
  },
  "cancelled while it runs": {
    asks: Effect.asVoid(Effect.orDie(Docket.cancel("Tick"))),
    body: () => Effect.never,
    starts: 1,
    next: "nothing"
  },
  "cancel by its handler": { asks: perpetual(({ cancel }) => cancel), body: () => ok, starts: 1, next: "nothing" },
  "cancel by its handler, which then fails": {
    asks: perpetual(({ cancel }) => cancel),
    body: () => boom("end"),
    starts: 1,
    next: "nothing"
  },
  "after": { asks: perpetual(({ after }) => after(twentyMinutes)), body: () => ok, starts: 1, next: twentyMinutes },
  "after, then a failure": {
    asks: perpetual(({ after }) => after(twentyMinutes)),
    body: () => boom("end"),
    starts: 1,
    next: twentyMinutes
  },
  "at": {
    asks: Effect.flatMap(Clock.currentTimeMillis, (now) => perpetual(({ at }) => at(now + twentyMinutes))),
    body: () => ok,
    starts: 1,
    next: twentyMinutes
  },
  "next": { asks: perpetual(({ next }) => next(Tick, { n: 7 })), body: () => ok, starts: 1 }
} satisfies Record<string, Outcome>

/** Where a worker dies, or its store answers badly. */
const points = [
  "nowhere",
  "before the body",
  "at the start of the body",
  "in the body, when it has asked",
  "between body and settlement",
  "after the settlement",
  "nowhere, but the reply to the settlement is lost"
] as const

type Name = keyof typeof outcomes
type Point = (typeof points)[number]

/** A session of a worker that dies at a point: from then on its store hears nothing of it. */
const doomed = (point: Point) => {
  const state = { dead: false, lost: false }
  let leave: Effect.Effect<unknown> = Effect.void
  const die = Effect.suspend(() => {
    state.dead = true
    return Effect.andThen(leave, Effect.never)
  })
  const wrap = (session: DocketStore.WorkerSession): DocketStore.WorkerSession => {
    // it has no slots left afterwards, so that no work waits for it
    const nothing = { settle: [], capacity: 0, lanes: undefined, except: undefined }
    leave = Effect.orDie(session.turn(nothing))
    return {
      ...session,
      renew: (claims) => Effect.suspend(() => state.dead ? Effect.never : session.renew(claims)),
      turn: (request) =>
        Effect.suspend(() => {
          if (state.dead) return Effect.never
          const settles = request.settle.length > 0
          if (settles && point === "between body and settlement") return die
          return Effect.flatMap(session.turn(request), (reply) => {
            if (reply.claimed.length > 0 && point === "before the body") return die
            if (settles && point === "after the settlement") return die
            if (settles && point === "nowhere, but the reply to the settlement is lost" && !state.lost) {
              state.lost = true
              return Effect.fail(Kit.unavailable)
            }
            return Effect.succeed(reply)
          })
        })
    }
  }
  return { die, layer: Kit.intercept(wrap) }
}

/** Lives through cycles of one chain, each with an outcome and a point of death; checks what is left after each. */
const survive = (cycles: ReadonlyArray<readonly [Name, Point]>) => {
  const starts: Array<number> = []
  let begin: (start: number) => Body = () => ok
  const layer = Kit.live(
    Ticks,
    Tick.toLayer(() => Effect.flatMap(Clock.currentTimeMillis, (now) => Effect.suspend(() => begin(starts.push(now)))))
      .pipe(Layer.provide(Ticks.client))
  )
  const pending = Stream.runCollect(Docket.snapshot)
  return Effect.gen(function*() {
    let due: number | undefined = yield* Clock.currentTimeMillis
    for (const [name, point] of cycles) {
      const label = `${name}; dies ${point}`
      const outcome: Outcome = outcomes[name]
      const { die, layer } = doomed(point)
      starts.length = 0
      begin = (start) =>
        Effect.gen(function*() {
          if (start === 1 && point === "at the start of the body") return yield* die
          if (outcome.asks !== undefined) yield* outcome.asks
          if (start === 1 && point === "in the body, when it has asked") return yield* die
          return yield* outcome.body(start)
        })
      yield* TestClock.setTime(due)
      // alone, so that it is the one that begins
      const first = yield* Kit.start(
        Worker.layer(Ticks, { lease: "5 seconds", drainTimeout: 0 }).pipe(Layer.provide(layer))
      )
      yield* Kit.settle
      if (name === "released at shutdown") {
        yield* Effect.forkChild(first.stop)
        yield* Kit.advance("1 second")
      }
      const second = yield* Kit.start(Worker.layer(Ticks, { lease: "5 seconds", drainTimeout: 0 }))
      yield* Kit.advanceBy("1 second", 60)

      const begun = starts[0] ?? assert.fail(`${label}: it never ran`)
      const now = yield* Clock.currentTimeMillis
      const isDead = point !== "nowhere" && point !== "nowhere, but the reply to the settlement is lost"
      assert.isAtMost(starts.length, outcome.starts + (isDead ? 1 : 0), `${label}: starts`)
      // with a reply, what it claimed is lost as well, and a lost claim may use up a retry
      if (point === "nowhere") assert.strictEqual(starts.length, outcome.starts, `${label}: starts`)
      const next = yield* pending
      const delay = outcome.next ?? hour
      if (delay === "nothing") {
        // and it stays ended, although a worker keeps the task seeded and its retention is zero
        yield* Kit.advanceBy("15 seconds", 20)
        assert.deepStrictEqual(yield* pending, [], label)
        assert.isAtMost(starts.length, outcome.starts + 1, `${label}: starts`)
        return
      }
      assert.deepStrictEqual(
        next.map(({ attempt, key, payload, state }) => ({ attempt, key, payload, state })),
        [{ attempt: 0, key: "Tick", payload: { n: name === "next" ? 7 : (payloadOf(next)) }, state: "Scheduled" }],
        label
      )
      due = next[0]!.scheduledAt.epochMilliseconds
      assert.isTrue(due >= begun + delay && due <= now + delay, `${label}: due`)
      for (const worker of [first, second]) yield* Effect.forkChild(worker.stop)
      yield* Kit.advance("1 minute")
    }
    // and it goes on
    begin = () => ok
    starts.length = 0
    yield* TestClock.setTime(due)
    yield* Kit.start(Worker.layer(Ticks))
    yield* Kit.advance("1 minute")
    assert.strictEqual(starts.length, 1)
    assert.strictEqual((yield* pending).length, 1)
  }).pipe(Effect.scoped, Effect.provide(layer))
}

const payloadOf = (runs: ReadonlyArray<{ readonly payload: unknown }>) =>
  (runs[0]?.payload as { readonly n: number } | undefined)?.n // the payload of `Tick`

describe("A perpetual task", () => {
  for (const [name, { next }] of Object.entries<Outcome>(outcomes)) {
    it.effect(
      `${name}, whenever its worker dies: ${next === "nothing" ? "no" : "exactly one"} successor`,
      () => Effect.forEach(points, (point) => survive([[name as Name, point]]), { discard: true }),
      60_000
    )
  }

  const Cycle = Schema.Tuple([Schema.Literals(Object.keys(outcomes) as Array<Name>), Schema.Literals(points)])

  it.effect(
    "survives sequences of them",
    () =>
      Effect.gen(function*() {
        const sequences = yield* Arbitrary.sampleEffect(
          Arbitrary.array(Arbitrary.schema(Cycle), { minLength: 2, maxLength: 4 }),
          { count: 16, seed: "perpetual" }
        )
        for (const cycles of sequences) yield* survive(cycles)
      }),
    120_000
  )
})
