import { Docket, Execution, Retry, Task, type TaskFailure, TaskGroup } from "@effect-docket/dsl"
import * as Interpreter from "@effect-docket/dsl/Interpreter"
import { type Worker } from "@effect-docket/runtime"
import { DocketTest } from "@effect-docket/runtime/testing"
import { assert, describe, it } from "@effect/vitest"
import { Clock, DateTime, Duration, Effect, Exit, Fiber, Schedule, Schema, Stream } from "effect"
import * as history from "../src/internal/worker/history.ts"
import * as Kit from "./Kit.ts"

class Busy extends Schema.TaggedError<Busy>()("Busy", { wait: Schema.Int }) {}
class Gone extends Schema.TaggedError<Gone>()("Gone", {}) {}
class Odd extends Schema.TaggedError<Odd>()("Odd", { n: Schema.Int }) {}
const AnyError = Schema.Union([Busy, Gone, Odd])
type AnyError = typeof AnyError.Type

type Options = Pick<Task.Options<void, void, AnyError>, "retry" | "defectRetryPolicy" | "timeout">
type Body = (attempt: number, start: number) => Effect.Effect<void, AnyError, Task.HandlerServices>

const busy = (wait = 1) => Effect.fail(new Busy({ wait }))
const second = 1000

/** A task with these options, a note of when each of its attempts began, and its layers. */
const bundle = (options: Options, body: Body) => {
  class Tried extends Task.make("Tried", { error: AnyError, key: () => "tried", ...options }) {}
  const group = TaskGroup.make(Tried)
  const starts: Array<readonly [attempt: number, at: number]> = []
  const handlers = Tried.toLayer(Effect.gen(function*() {
    const origin = yield* Clock.currentTimeMillis
    return () =>
      Effect.gen(function*() {
        const { attempt } = yield* Execution.CurrentExecution
        starts.push([attempt, (yield* Clock.currentTimeMillis) - origin])
        return yield* body(attempt, starts.length)
      })
  }))
  return { Tried, group, starts, layer: Kit.live(group, handlers) }
}

/** Drains one run; when its attempts began, and how it ended. */
const attempts = (options: Options, body: Body, worker?: Worker.Options<[]>) => {
  const { Tried, group, layer, starts } = bundle(options, body)
  return Effect.gen(function*() {
    const run = yield* Docket.add(Tried)
    const report = yield* DocketTest.drain(group, worker)
    return { starts, report, exit: yield* Effect.exit(run.await) }
  }).pipe(Effect.provide(layer))
}

/** When the attempts began; the run has to fail for good. */
const startsOf = (options: Options, body: Body, worker?: Worker.Options<[]>) =>
  Effect.map(attempts(options, body, worker), ({ exit, report, starts }) => {
    assert.isTrue(Exit.isFailure(exit))
    assert.deepStrictEqual(report, { succeeded: 0, failed: 1, retried: starts.length - 1 })
    return starts
  })

const timesOf = (starts: ReadonlyArray<readonly [number, number]>) => starts.map(([, at]) => at)
const delaysOf = (starts: ReadonlyArray<readonly [number, number]>) =>
  timesOf(starts).slice(1).map((at, index) => at - timesOf(starts)[index]!)

describe("Retries", () => {
  describe("by a schedule", () => {
    it.effect("of three recurrences make four attempts, at exactly the times it says", () =>
      Effect.gen(function*() {
        const retry = Schedule.exponential("1 second").pipe(Schedule.upTo({ times: 3 }))
        assert.deepStrictEqual(yield* startsOf({ retry }, () => busy()), [
          [1, 0],
          [2, 1 * second],
          [3, 3 * second],
          [4, 7 * second]
        ])
      }))

    it.effect("count from the end of the failed attempt", () =>
      Effect.gen(function*() {
        const retry = Schedule.spaced("10 seconds").pipe(Schedule.upTo({ times: 2 }))
        const starts = yield* startsOf({ retry }, () => Effect.andThen(Effect.sleep("1 second"), busy()))
        assert.deepStrictEqual(timesOf(starts), [0, 11 * second, 22 * second])
      }))

    it.effect("stop when an attempt succeeds", () =>
      Effect.gen(function*() {
        const { exit, report, starts } = yield* attempts(
          { retry: Schedule.recurs(9) },
          (attempt) => attempt < 3 ? busy() : Effect.void
        )
        assert.deepStrictEqual(exit, Exit.void)
        assert.deepStrictEqual(starts.map(([attempt]) => attempt), [1, 2, 3])
        assert.deepStrictEqual(report, { succeeded: 1, failed: 0, retried: 2 })
      }))

    it.effect("do not happen when no policy is declared", () =>
      Effect.gen(function*() {
        assert.deepStrictEqual(yield* startsOf({}, () => busy()), [[1, 0]])
      }))

    it.effect("end with the last error, as it was", () =>
      Effect.gen(function*() {
        const { exit } = yield* attempts({ retry: Schedule.recurs(2) }, (attempt) => busy(attempt))
        const error = yield* Effect.flip(exit)
        assert.instanceOf(error, Busy)
        assert.strictEqual(error._tag === "Busy" ? error.wait : 0, 3)
      }))

    it.effect("show it the decoded errors", () =>
      Effect.gen(function*() {
        const retry = Schedule.recurs(100).pipe(
          Schedule.setInputType<AnyError>(),
          Schedule.while(({ input }) => input instanceof Odd && input.n < 3)
        )
        const starts = yield* startsOf({ retry }, (attempt) => Effect.fail(new Odd({ n: attempt })))
        assert.strictEqual(starts.length, 3)
      }))

    it.effect("keep a limit on the duration by the times of the failures, whichever worker sees them", () =>
      Effect.gen(function*() {
        const retry = Schedule.spaced("1 minute").pipe(Schedule.upTo({ duration: "5 minutes" }))
        const alone = yield* startsOf({ retry }, () => busy())
        const { Tried, group, layer, starts } = bundle({ retry }, () => busy())
        yield* Effect.gen(function*() {
          yield* Docket.add(Tried)
          for (let n = 0; n < 20; n++) yield* DocketTest.drain(group, { for: "30 seconds", name: `worker ${n}` })
        }).pipe(Effect.provide(layer))
        assert.deepStrictEqual(starts, alone)
        // the failure at five minutes is still within the limit, the one at six is not
        assert.deepStrictEqual(timesOf(alone), [0, 1, 2, 3, 4, 5, 6].map((minute) => minute * 60 * second))
      }))

    it.effect("jitter the same way in every process, and another way for another run", () =>
      Effect.gen(function*() {
        const retry = Schedule.jittered(Schedule.spaced("1 minute")).pipe(Schedule.upTo({ times: 5 }))
        const alone = yield* startsOf({ retry }, () => busy())
        const delays = delaysOf(alone)
        assert.strictEqual(new Set(delays).size, 5)
        assert.isTrue(delays.every((delay) => delay >= 48 * second && delay <= 72 * second))
        assert.deepStrictEqual(yield* startsOf({ retry }, () => busy()), alone)

        const { Tried, group, layer, starts } = bundle({ retry }, () => busy())
        yield* Effect.gen(function*() {
          yield* Docket.add(Tried)
          // each attempt in a worker of its own
          for (let n = 0; n < 40; n++) yield* DocketTest.drain(group, { for: "10 seconds", name: `worker ${n}` })
        }).pipe(Effect.provide(layer))
        assert.deepStrictEqual(starts, alone)

        const other = bundle({ retry }, () => busy())
        yield* Effect.gen(function*() {
          yield* Docket.add(other.Tried, undefined, { key: "another" })
          yield* DocketTest.drain(other.group)
        }).pipe(Effect.provide(other.layer))
        assert.notDeepEqual(delaysOf(other.starts), delays)
      }))

    it.effect("see only the failures that they are responsible for", () =>
      Effect.gen(function*() {
        const retry = {
          Busy: Schedule.exponential("1 second").pipe(Schedule.upTo({ times: 2 })),
          Odd: Schedule.spaced("10 seconds").pipe(Schedule.upTo({ times: 2 })),
          Gone: Retry.never
        }
        const starts = yield* startsOf({ retry, defectRetryPolicy: Schedule.spaced("100 seconds") }, (attempt) =>
          attempt === 3
            ? Effect.die("in between")
            : attempt % 2 === 0
            ? Effect.fail(new Odd({ n: attempt }))
            : busy())
        // Busy, Odd, defect, Odd, Busy, Odd: the third one
        assert.deepStrictEqual(
          delaysOf(starts),
          [1, 10, 100, 10, 2].map((delay) =>
            delay * second
          )
        )
        assert.strictEqual(starts.at(-1)?.[0], 6)
      }))

    it.effect("give up where it asks for a delay without an end", () =>
      Effect.gen(function*() {
        assert.strictEqual((yield* startsOf({ retry: Schedule.spaced(Duration.infinity) }, () => busy())).length, 1)
      }))
  })

  describe("by rules", () => {
    const rules = (Rule: Retry.Rule<Busy>) => ({ Busy: Rule, Gone: Retry.never, Odd: Retry.never })

    it.effect("a tag that says never fails at once", () =>
      Effect.gen(function*() {
        const retry = rules(Schedule.recurs(9))
        assert.strictEqual((yield* startsOf({ retry }, () => Effect.fail(new Gone()))).length, 1)
        assert.strictEqual((yield* startsOf({ retry }, () => busy())).length, 10)
      }))

    it.effect("`after` waits that long and counts an attempt", () =>
      Effect.gen(function*() {
        const { starts } = yield* attempts({ retry: rules(Retry.after("1 minute")) }, (_, start) =>
          start < 3 ? busy() : Effect.void)
        assert.deepStrictEqual(starts, [[1, 0], [2, 60 * second], [3, 120 * second]])
      }))

    it.effect("`snooze` waits that long and counts none", () =>
      Effect.gen(function*() {
        const { report, starts } = yield* attempts(
          { retry: rules(Retry.snooze("1 minute")) },
          (_, start) => start < 4 ? busy() : Effect.void
        )
        assert.deepStrictEqual(starts, [[1, 0], [1, 60 * second], [1, 120 * second], [1, 180 * second]])
        assert.deepStrictEqual(report, { succeeded: 1, failed: 0, retried: 0 })
      }))

    it.effect("a function decides by the error", () =>
      Effect.gen(function*() {
        const decide = ({ wait }: Busy) => wait === 0 ? Retry.never : wait > 5 ? Retry.snooze(wait) : Retry.after(wait)
        const waits = [3, 7, 4, 0]
        const starts = yield* Effect.map(
          attempts({ retry: rules(decide) }, (_, start) => busy(waits[start - 1])),
          ({ starts }) => starts
        )
        assert.deepStrictEqual(starts, [[1, 0], [2, 3], [2, 10], [3, 14]])
      }))

    it.effect("a rule that throws ends the run with its error, is logged, and harms nobody", () => {
      const { at, layer } = Kit.logs()
      return Effect.gen(function*() {
        const { exit, starts } = yield* attempts({
          retry: rules(() => {
            throw new Error("bad rule")
          })
        }, () => busy())
        assert.strictEqual(starts.length, 1)
        assert.instanceOf(yield* Effect.flip(exit), Busy)
        const [line] = at("Error")
        assert.include(line?.message, "its retry policy died")
        assert.include(line?.text, "bad rule")
      }).pipe(Effect.provide(layer))
    })

    it.effect("so does a schedule that dies, and a rule that is none", () =>
      Effect.gen(function*() {
        const dying = Schedule.recurs(3).pipe(Schedule.modifyDelay(() => Effect.die("bad schedule")))
        assert.strictEqual((yield* startsOf({ retry: dying }, () => busy())).length, 1)
        assert.strictEqual((yield* startsOf({ defectRetryPolicy: dying }, () => Effect.die("x"))).length, 1)
        for (const none of [undefined, null, 3, {}, { _tag: "Other" }]) {
          const rule = (() => none) as unknown as () => Retry.Decision // past the types on purpose
          assert.strictEqual((yield* startsOf({ retry: rules(rule) }, () => busy())).length, 1)
        }
      }))

    it.effect("a delay without an end is no retry, and leaves no run that cannot be shown", () =>
      Effect.gen(function*() {
        for (const decision of [Retry.snooze("Infinity"), Retry.after("Infinity")]) {
          const { Tried, group, layer } = bundle({ retry: rules(decision) }, () => busy())
          yield* Effect.gen(function*() {
            const run = yield* Docket.add(Tried)
            yield* DocketTest.drain(group)
            assert.deepStrictEqual(yield* Stream.runCollect(Docket.snapshot), [])
            assert.instanceOf(yield* Effect.flip(run.await), Busy)
          }).pipe(Effect.provide(layer))
        }
      }))
  })

  describe("of defects, timeouts and lost workers", () => {
    it.effect("by default are three: after one, two and four seconds", () =>
      Effect.gen(function*() {
        const starts = yield* startsOf({}, () => Effect.die("x"))
        assert.deepStrictEqual(starts, [[1, 0], [2, 1 * second], [3, 3 * second], [4, 7 * second]])
      }))

    it.effect("follow the policy of the worker where the task has none, and that of the task where it has one", () =>
      Effect.gen(function*() {
        const worker = { defectRetryPolicy: Schedule.spaced("5 seconds").pipe(Schedule.upTo({ times: 1 })) }
        const defectRetryPolicy = Schedule.recurs(0)
        assert.deepStrictEqual(delaysOf(yield* startsOf({}, () => Effect.die("x"), worker)), [5 * second])
        assert.deepStrictEqual(delaysOf(yield* startsOf({ defectRetryPolicy }, () => Effect.die("x"), worker)), [])
      }))

    it.effect("are not the business of the policy for declared errors", () =>
      Effect.gen(function*() {
        const options = { retry: Schedule.recurs(9), defectRetryPolicy: Schedule.recurs(1) }
        assert.strictEqual((yield* startsOf(options, () => Effect.die("x"))).length, 2)
      }))

    it.effect("are counted apart from declared errors", () =>
      Effect.gen(function*() {
        const options = { retry: Schedule.recurs(9), defectRetryPolicy: Schedule.recurs(1) }
        const starts = yield* startsOf(options, (attempt) => attempt < 4 ? busy() : Effect.die("x"))
        // three declared errors, and two defects: the second one ends it
        assert.strictEqual(starts.length, 5)
      }))

    it.effect("take no retry from declared errors", () =>
      Effect.gen(function*() {
        const options = { retry: Schedule.recurs(2), defectRetryPolicy: Schedule.recurs(1) }
        const starts = yield* startsOf(options, (attempt) => attempt === 2 ? Effect.die("x") : busy())
        // the third declared error ends it
        assert.strictEqual(starts.length, 4)
      }))

    it.effect("show the schedule the failure with its reason", () =>
      Effect.gen(function*() {
        const seen: Array<unknown> = []
        const defectRetryPolicy = Schedule.recurs(2).pipe(
          Schedule.setInputType<TaskFailure.TaskFailure>(),
          Schedule.while(({ input }) => {
            seen.push(input.reason._tag)
            return true
          })
        )
        yield* startsOf({ defectRetryPolicy, timeout: "1 second" }, (attempt) =>
          attempt === 1 ? Effect.die("x") : Effect.never)
        assert.strictEqual(seen[0], "Defect")
        assert.strictEqual(seen.at(-1), "Timeout")
      }))

    it.effect("a timeout counts as an attempt, and is retried", () =>
      Effect.gen(function*() {
        const starts = yield* startsOf({ timeout: "10 seconds" }, () => Effect.never)
        assert.deepStrictEqual(starts, [[1, 0], [2, 11 * second], [3, 23 * second], [4, 37 * second]])
      }))

    it.effect("each attempt has the whole timeout", () =>
      Effect.gen(function*() {
        const { exit, starts } = yield* attempts(
          { timeout: "10 seconds", retry: Schedule.spaced("1 second") },
          (attempt) => Effect.andThen(Effect.sleep("9 seconds"), attempt < 3 ? busy() : Effect.void)
        )
        assert.deepStrictEqual(exit, Exit.void)
        assert.strictEqual(starts.length, 3)
      }))

    it.effect("a body that extends its timeout has that long from then on", () =>
      Effect.gen(function*() {
        const extending = (length: Duration.Input) => (): Effect.Effect<void, never, Task.HandlerServices> =>
          Effect.gen(function*() {
            const { extendTimeout } = yield* Execution.CurrentExecution
            yield* Effect.sleep("8 seconds")
            yield* extendTimeout("1 minute")
            yield* Effect.sleep(length)
          })
        const options = { timeout: "10 seconds", defectRetryPolicy: Schedule.recurs(0) } as const
        const longer = yield* attempts(options, extending("59 seconds"))
        assert.deepStrictEqual(longer.exit, Exit.void)
        const tooLong = yield* attempts(options, extending("61 seconds"))
        const error = yield* Effect.flip(tooLong.exit)
        assert.include(String(error), "it ran longer than its timeout of 1m 8s")
      }))

    it.effect("a body may shorten what is left, and a task without a timeout stays without one", () =>
      Effect.gen(function*() {
        const sooner: Body = () =>
          Effect.andThen(
            Execution.CurrentExecution.use(({ extendTimeout }) => extendTimeout("1 second")),
            Effect.sleep("5 seconds")
          )
        const defectRetryPolicy = Schedule.recurs(0)
        const { exit } = yield* attempts({ timeout: "10 seconds", defectRetryPolicy }, sooner)
        const reason = Kit.reasonOf(yield* Effect.flip(exit))
        assert.isTrue(reason._tag === "Timeout" && Duration.toMillis(reason.limit) === 1000)
        assert.deepStrictEqual((yield* attempts({ defectRetryPolicy }, sooner)).exit, Exit.void)
      }))
  })

  describe("of a run whose workers disappear", () => {
    /** Lets a run be claimed by workers that are never heard of again. */
    const lose = (times: number) =>
      Effect.scoped(Effect.gen(function*() {
        const { claim } = yield* Kit.crashingWorker({ tasks: ["Tried"] })
        for (let n = 0; n < times; n++) {
          assert.strictEqual((yield* claim).length, 1)
          yield* Kit.advance("1 second")
        }
      }))

    it.effect("start the body again at once while the policy allows it", () =>
      Effect.gen(function*() {
        const { Tried, group, layer, starts } = bundle({}, () => Effect.void)
        yield* Effect.gen(function*() {
          const run = yield* Docket.add(Tried)
          yield* lose(3)
          yield* DocketTest.drain(group)
          assert.deepStrictEqual(yield* Effect.exit(run.await), Exit.void)
          assert.deepStrictEqual(starts, [[4, 3 * second]])
        }).pipe(Effect.provide(layer))
      }))

    it.effect("end it as lost, and never start the body, when the policy is exhausted", () =>
      Effect.gen(function*() {
        const { Tried, group, layer, starts } = bundle({}, () => Effect.void)
        yield* Effect.gen(function*() {
          const run = yield* Docket.add(Tried)
          yield* lose(4)
          assert.deepStrictEqual(yield* DocketTest.drain(group), { succeeded: 0, failed: 1, retried: 0 })
          const error = yield* Effect.flip(run.await)
          assert.strictEqual(
            String((error as Error).message),
            "task \"Tried\", key \"tried\": its worker disappeared in each of 4 attempts; check whether the handler kills its process"
          )
          assert.deepStrictEqual(starts, [])
          const [letter] = yield* Stream.runCollect(Docket.deadLetters(Tried))
          assert.strictEqual(letter?.attempts, 5)
        }).pipe(Effect.provide(layer))
      }))

    it.effect("count together with defects", () =>
      Effect.gen(function*() {
        const { Tried, group, layer, starts } = bundle({}, () => Effect.die("x"))
        yield* Effect.gen(function*() {
          const run = yield* Docket.add(Tried)
          yield* DocketTest.drain(group, { for: "2 seconds" })
          assert.strictEqual(starts.length, 2)
          yield* Kit.advance("1 second")
          yield* lose(2)
          yield* DocketTest.drain(group)
          assert.strictEqual(starts.length, 2)
          assert.strictEqual(Kit.reasonOf(yield* Effect.flip(run.await))._tag, "Lost")
        }).pipe(Effect.provide(layer))
      }))

    it.effect("survive a policy that dies: the run ends, the worker goes on", () =>
      Effect.gen(function*() {
        const dying = Schedule.recurs(3).pipe(Schedule.modifyDelay(() => Effect.die("bad schedule")))
        const { Tried, group, layer } = bundle({ defectRetryPolicy: dying }, () => Effect.void)
        yield* Effect.gen(function*() {
          const run = yield* Docket.add(Tried)
          yield* lose(1)
          const other = yield* Docket.add(Tried, undefined, { key: "other", after: "1 minute" })
          yield* DocketTest.drain(group, { concurrency: 1 })
          assert.isTrue(Exit.isFailure(yield* Effect.exit(run.await)))
          assert.deepStrictEqual(yield* Effect.exit(other.await), Exit.void)
        }).pipe(Effect.provide(layer))
      }))
  })

  it.effect("an observer sees each of them with its error and its time", () =>
    Effect.gen(function*() {
      const retry = Schedule.spaced("1 second").pipe(Schedule.upTo({ times: 2 }))
      const { Tried, group, layer } = bundle({ retry }, (attempt) => attempt < 3 ? busy(attempt) : Effect.void)
      yield* Effect.gen(function*() {
        const run = yield* Docket.add(Tried)
        const events = yield* Effect.forkChild(Stream.runCollect(run.changes), { startImmediately: true })
        yield* DocketTest.drain(group, { name: "w" })
        const seen = (yield* Fiber.join(events)).map((event) =>
          event._tag === "Started"
            ? ["Started", event.attempt, event.worker]
            : event._tag === "Retrying"
            ? [
              "Retrying",
              event.attempt,
              event.error instanceof Busy ? event.error.wait : event.error,
              DateTime.toEpochMillis(event.next)
            ]
            : [event._tag]
        )
        assert.deepStrictEqual(seen, [
          ["Started", 1, "w"],
          ["Retrying", 1, 1, 1000],
          ["Ready"],
          ["Started", 2, "w"],
          ["Retrying", 2, 2, 2000],
          ["Ready"],
          ["Started", 3, "w"],
          ["Finished"]
        ])
      }).pipe(Effect.provide(layer))
    }))

  it.effect("a default of the group holds for tasks that say nothing, and gives way to those that do", () =>
    Effect.gen(function*() {
      class Silent extends Task.make("Silent", { error: Busy, success: Schema.Int }) {}
      class Own extends Task.make("Own", { error: Busy, success: Schema.Int, retry: Schedule.recurs(1) }) {}
      class Group extends TaskGroup.make(Silent, Own).annotateTasks(Task.Retry, Schedule.recurs(4)) {}
      const starts: Array<string> = []
      const fails = (name: string) => () => Effect.andThen(Effect.sync(() => starts.push(name)), busy())
      yield* Effect.gen(function*() {
        yield* Docket.addAll([[Silent, undefined], [Own, undefined]])
        yield* DocketTest.drain(Group)
        assert.strictEqual(starts.filter((name) => name === "Silent").length, 5)
        assert.strictEqual(starts.filter((name) => name === "Own").length, 2)
      }).pipe(Effect.provide(Kit.live(Group, Group.toLayer({ Silent: fails("Silent"), Own: fails("Own") }))))
    }))
})

describe("The history of a run", () => {
  class Failing extends Task.make("Failing", { error: AnyError }) {}
  const codec = Interpreter.codec(Failing)
  const encode = (error: AnyError) => codec.encodeFailure(error)
  const read = (stored: string | undefined) =>
    history.read(codec, stored).pipe(
      Effect.map((failures) => failures.map(({ at, error }) => [at, error instanceof Busy ? error.wait : error]))
    )

  it.effect("keeps each failure with its time and its error", () =>
    Effect.gen(function*() {
      let stored: string | undefined = undefined
      for (const [at, wait] of [[10, 1], [20, 2], [30, 1]] as const) {
        stored = history.append(stored, at, yield* encode(new Busy({ wait })))
      }
      assert.deepStrictEqual(yield* read(stored), [[10, 1], [20, 2], [30, 1]])
      assert.deepStrictEqual(yield* read(undefined), [])
    }))

  it.effect("keeps the same text once, and few different ones, but every time", () =>
    Effect.gen(function*() {
      let same: string | undefined = undefined
      let different: string | undefined = undefined
      const exit = yield* encode(new Busy({ wait: 1 }))
      for (let n = 0; n < 1000; n++) {
        same = history.append(same, n, exit)
        different = history.append(different, n, yield* encode(new Busy({ wait: 1_000_000 + n })))
      }
      assert.isBelow(same!.length, 20_000)
      assert.strictEqual(same!.split("Busy").length, 2)
      assert.isAtMost(different!.split("Busy").length, 33)
      const failures = yield* read(different)
      assert.strictEqual(failures.length, 1000)
      assert.deepStrictEqual(failures.map(([at]) => at), Array.from({ length: 1000 }, (_, n) => n))
      // the latest failure is always its own
      assert.deepStrictEqual(failures.at(-1), [999, 1_000_999])
    }))

  it.effect("begins anew where it cannot be read, and leaves out an error that does not decode", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* read("garbage"), [])
      const stored = history.append(history.append(undefined, 1, "garbage"), 2, yield* encode(new Busy({ wait: 2 })))
      assert.deepStrictEqual(yield* read(stored), [[2, 2]])
    }))
})
