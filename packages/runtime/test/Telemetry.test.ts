import { Docket, Task, TaskGroup } from "@effect-docket/dsl"
import { Worker } from "@effect-docket/runtime"
import { DocketTest } from "@effect-docket/runtime/testing"
import { assert, describe, it } from "@effect/vitest"
import {
  Context,
  Effect,
  Fiber,
  Latch,
  Layer,
  Metric,
  Option,
  Redacted,
  Schedule,
  Schema,
  SchemaGetter,
  Stream,
  Tracer
} from "effect"
import * as Kit from "./Kit.ts"

class Broken extends Schema.TaggedError<Broken>()("Broken", { why: Schema.String }) {}
class Job extends Task.make("Job", {
  payload: { id: Schema.Int, fails: Schema.Int },
  error: Broken,
  key: ["id"],
  retry: Schedule.spaced("10 seconds").pipe(Schedule.upTo({ times: 1 }))
}) {}
class Jobs extends TaskGroup.make(Job) {}

/** A job that takes two seconds, and fails in its first attempts. */
const bundle = (body: Effect.Effect<void, never, Task.HandlerServices> = Effect.sleep("2 seconds")) => {
  const failures = new Map<number, number>()
  return Kit.live(
    Jobs,
    Jobs.toLayer({
      Job: ({ fails, id }) =>
        Effect.gen(function*() {
          yield* body
          const before = failures.get(id) ?? 0
          failures.set(id, before + 1)
          if (before < fails) return yield* new Broken({ why: `failure ${before + 1}` })
        })
    })
  )
}

describe("Logs", () => {
  it.effect("say nothing of runs that go well, and an error line of one that failed for good", () => {
    const { layer, lines } = Kit.logs()
    return Effect.gen(function*() {
      yield* Docket.addAll([[Job, { id: 1, fails: 0 }], [Job, { id: 2, fails: 1 }], [Job, { id: 3, fails: 9 }]])
      yield* DocketTest.drain(Jobs)
      assert.deepStrictEqual(lines.map(({ level }) => level), ["Error"])
      const [line] = lines
      assert.include(line?.message, "Job: failed")
      assert.deepStrictEqual(line?.annotations, { task: "Job", key: "Job/3", attempt: 2 })
      assert.include(line?.text, "failure 2")
    }).pipe(Effect.provide(Layer.provideMerge(bundle(), layer)))
  })

  it.effect("have a line per transition when somebody reads debug lines", () => {
    const { layer, lines } = Kit.logs("Debug")
    return Effect.gen(function*() {
      yield* Docket.add(Job, { id: 1, fails: 1 })
      yield* DocketTest.drain(Jobs)
      const ours = lines.filter(({ annotations }) => annotations["task"] === "Job")
      assert.deepStrictEqual(
        ours.map((
          { annotations, level, message }
        ) => [level, message.split(" ").slice(0, 4).join(" "), annotations["attempt"]]),
        [
          ["Debug", "Job: failed, again in", 1],
          ["Debug", "Job: completed", 2]
        ]
      )
      assert.isTrue(ours.every(({ annotations }) => annotations["key"] === "Job/1"))
    }).pipe(Effect.provide(Layer.provideMerge(bundle(), layer)))
  })

  it.effect("of a handler keep what the application annotates", () => {
    const { layer, lines } = Kit.logs()
    return Effect.gen(function*() {
      yield* Docket.add(Job, { id: 1, fails: 0 })
      yield* DocketTest.drain(Jobs).pipe(Effect.annotateLogs({ service: "billing" }))
      assert.deepStrictEqual(lines.map(({ message }) => message), ["from the handler"])
      assert.strictEqual(lines[0]?.annotations["service"], "billing")
    }).pipe(Effect.provide(Layer.provideMerge(bundle(Effect.logInfo("from the handler")), layer)))
  })
})

describe("Secrets", () => {
  const secret = "s3cr3t-8f1c"

  it.effect("that would be stored in clear are refused, and the refusal does not show them", () => {
    const { layer, lines } = Kit.logs("Debug")
    return Effect.gen(function*() {
      class Login
        extends Task.make("Login", { payload: { user: Schema.String, token: Schema.Redacted(Schema.String) } })
      {}
      class Nested extends Task.make("Nested", {
        payload: { list: Schema.Array(Schema.Struct({ token: Schema.optionalKey(Schema.Redacted(Schema.String)) })) }
      }) {}
      class Result
        extends Task.make("Result", { success: Schema.Redacted(Schema.String), defectRetryPolicy: Schedule.recurs(0) })
      {}
      class Group extends TaskGroup.make(Login, Nested, Result) {}
      const handlers = Group.toLayer({
        Login: () => Effect.void,
        Nested: () => Effect.void,
        Result: () => Effect.succeed(Redacted.make(secret))
      })
      yield* Effect.gen(function*() {
        const token = Redacted.make(secret)
        const errors = [
          yield* Effect.flip(Docket.add(Login, { user: "u", token })),
          yield* Effect.flip(Docket.add(Nested, { list: [{ token }] }))
        ]
        for (const error of errors) {
          assert.strictEqual(error.reason._tag, "InvalidPayload")
          assert.include(error.message, "Redacted")
          assert.notInclude(`${error.message} ${JSON.stringify(error)} ${String(error.stack)}`, secret)
        }
        assert.deepStrictEqual(yield* Stream.runCollect(Docket.snapshot), [])
        const run = yield* Docket.add(Result)
        yield* DocketTest.drain(Group)
        assert.include(Kit.defectOf(yield* Effect.flip(run.await)), "Redacted")
        const [letter] = yield* Stream.runCollect((yield* Docket.Docket).deadLetters("Result"))
        assert.notInclude(JSON.stringify(letter), secret)
      }).pipe(Effect.provide(Layer.provideMerge(Kit.live(Group, handlers), layer)))
      assert.isAbove(lines.length, 0)
      for (const line of lines) assert.notInclude(line.text, secret)
    })
  })

  it.effect("with an encoded form of their own arrive, and never show in lines, errors or events", () => {
    const { layer, lines } = Kit.logs("Debug")
    const events: Array<unknown> = []
    return Effect.gen(function*() {
      // a stand-in for encryption
      const turned = (text: string) => Array.from(text).toReversed().join("")
      const Sealed = Schema.String.pipe(
        Schema.decodeTo(Schema.Redacted(Schema.String), {
          decode: SchemaGetter.transform((text: string) => Redacted.make(turned(text))),
          encode: SchemaGetter.transform((value: Redacted.Redacted<string>) => turned(Redacted.value(value)))
        })
      )
      class Login
        extends Task.make("Login", { payload: { n: Schema.Int, token: Sealed }, defectRetryPolicy: Schedule.recurs(1) })
      {}
      const group = TaskGroup.make(Login)
      const seen: Array<string> = []
      const handler = Login.toLayer((payload) =>
        Effect.sync(() => seen.push(Redacted.value(payload.token))).pipe(
          Effect.andThen(Effect.logInfo("signing in", payload)),
          Effect.andThen(Effect.die(payload))
        )
      )
      yield* Effect.gen(function*() {
        const listening = yield* Docket.events.pipe(
          Stream.runForEach((event) => Effect.sync(() => events.push(event))),
          Effect.forkChild({ startImmediately: true })
        )
        const error = yield* Effect.flip(Docket.add(Login, { n: 0.5, token: Redacted.make(secret) }))
        assert.notInclude(`${error.message} ${JSON.stringify(error)}`, secret)
        const run = yield* Docket.add(Login, { n: 1, token: Redacted.make(secret) })
        yield* DocketTest.drain(group)
        assert.deepStrictEqual(seen, [secret, secret])
        const failure = yield* Effect.flip(run.await)
        assert.notInclude(`${failure.message} ${JSON.stringify(failure)}`, secret)
        const letters = yield* Stream.runCollect((yield* Docket.Docket).deadLetters("Login"))
        assert.notInclude(JSON.stringify(letters), secret)
        yield* Kit.settle
        yield* Fiber.interrupt(listening)
      }).pipe(Effect.provide(Layer.provideMerge(Kit.live(group, handler), layer)))
      assert.isAbove(lines.length, 2)
      assert.isAbove(events.length, 3)
      assert.notInclude(JSON.stringify(events), secret)
      for (const line of lines) assert.notInclude(line.text, secret)
    })
  })
})

describe("Metrics", () => {
  /** The values of a metric of the docket, by task. */
  const values = Effect.map(Metric.snapshot, (snapshots) => {
    const found: Record<string, number> = {}
    for (const { attributes, id, state, type } of snapshots) {
      if (!id.startsWith("docket_")) continue
      assert.deepStrictEqual(Object.keys(attributes ?? {}).toSorted(), ["docket", "task"])
      assert.strictEqual(attributes?.["docket"], "test")
      if (type === "Counter" || type === "Histogram") found[`${id} ${attributes?.["task"]}`] = Number(state.count)
    }
    return found
  })

  const isolated = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    Effect.provideService(effect, Metric.MetricRegistry, new Map())

  it.effect("count what happened, by docket and task and nothing else", () =>
    Effect.gen(function*() {
      yield* Docket.addAll([[Job, { id: 1, fails: 0 }], [Job, { id: 2, fails: 1 }], [Job, { id: 3, fails: 9 }]])
      yield* DocketTest.drain(Jobs)
      assert.deepInclude(yield* values, {
        "docket_started_total Job": 5,
        "docket_completed_total Job": 2,
        "docket_failed_total Job": 1,
        "docket_retried_total Job": 2,
        "docket_duration_seconds Job": 5,
        "docket_punctuality_seconds Job": 5
      })
    }).pipe(Effect.provide(bundle()), isolated))

  it.effect("measure attempts in seconds, and how late they began", () =>
    Effect.gen(function*() {
      yield* Docket.add(Job, { id: 1, fails: 0 }, { after: "1 minute" })
      yield* Kit.advance("70 seconds")
      yield* DocketTest.drain(Jobs)
      const snapshots = yield* Metric.snapshot
      const histogram = (id: string) => {
        const found = snapshots.find((snapshot) => snapshot.id === id)
        return found?.type === "Histogram" ? { sum: found.state.sum, max: found.state.max } : undefined
      }
      assert.deepStrictEqual(histogram("docket_duration_seconds"), { sum: 2, max: 2 })
      assert.deepStrictEqual(histogram("docket_punctuality_seconds"), { sum: 10, max: 10 })
    }).pipe(Effect.provide(bundle()), isolated))

  it.effect("count cancelled runs, redeliveries, and settlements that came too late", () => {
    const gate = Latch.makeUnsafe()
    const mute = Kit.intercept((session) => ({ ...session, renew: () => Effect.fail(Kit.unavailable) }))
    return Effect.gen(function*() {
      yield* Kit.start(Layer.provide(Worker.layer(Jobs, { lease: "3 seconds", name: "mute" }), mute))
      const run = yield* Docket.add(Job, { id: 1, fails: 0 })
      yield* Kit.settle
      yield* Kit.start(Worker.layer(Jobs, { lease: "3 seconds" }))
      yield* Kit.advanceBy("1 second", 4)
      const other = yield* Docket.add(Job, { id: 2, fails: 0 })
      yield* Kit.settle
      yield* other.cancel
      yield* Kit.settle
      yield* gate.open
      yield* Effect.exit(run.await)
      yield* Kit.settle
      assert.deepInclude(yield* values, {
        "docket_redelivered_total Job": 1,
        "docket_cancelled_total Job": 1,
        "docket_lost_total Job": 1
      })
    }).pipe(Effect.provide(bundle(gate.await)), isolated)
  })

  it.effect("have as many series after a thousand keys as after one", () =>
    Effect.gen(function*() {
      yield* Docket.add(Job, { id: 0, fails: 0 })
      yield* DocketTest.drain(Jobs)
      const before = (yield* Metric.snapshot).length
      yield* Docket.addAll(Array.from({ length: 1000 }, (_, id) => [Job, { id, fails: 0 }] as const))
      yield* DocketTest.drain(Jobs, { concurrency: 1000 })
      assert.strictEqual((yield* Metric.snapshot).length, before)
    }).pipe(Effect.provide(bundle()), isolated))
})

describe("Spans", () => {
  const tracing = () => {
    const spans: Array<Tracer.NativeSpan> = []
    const tracer = Tracer.make({
      span: (options) => {
        const span = new Tracer.NativeSpan(options)
        spans.push(span)
        return span
      }
    })
    return {
      spans,
      layer: Layer.succeed(Tracer.Tracer, tracer),
      of: (name: string) => spans.filter((span) => span.name === name)
    }
  }

  const statusOf = (span: Tracer.NativeSpan) => span.status._tag === "Ended" ? span.status.exit._tag : span.status._tag

  it.effect("are one consumer span per attempt, linked to the producer's, with an error status where it failed", () => {
    const { layer, of } = tracing()
    return Effect.gen(function*() {
      yield* Effect.withSpan(Docket.add(Job, { id: 1, fails: 1 }), "request")
      yield* DocketTest.drain(Jobs)
      const [request] = of("request")
      const attempts = of("Job")
      assert.strictEqual(attempts.length, 2)
      assert.deepStrictEqual(attempts.map(statusOf), ["Failure", "Success"])
      for (const [index, span] of attempts.entries()) {
        assert.strictEqual(span.kind, "consumer")
        assert.isTrue(Option.isNone(span.parent))
        assert.notStrictEqual(span.traceId, request?.traceId)
        assert.deepStrictEqual(span.links.map(({ span }) => [span.traceId, span.spanId]), [[
          request?.traceId,
          request?.spanId
        ]])
        assert.deepStrictEqual(Object.fromEntries(span.attributes), {
          "docket.name": "test",
          "docket.task": "Job",
          "docket.key": "Job/1",
          "docket.attempt": index + 1
        })
      }
    }).pipe(Effect.provide(Layer.provideMerge(bundle(Effect.withSpan(Effect.void, "inside")), layer)))
  })

  it.effect("of a handler are children of the span of its attempt", () => {
    const { layer, of } = tracing()
    return Effect.gen(function*() {
      yield* Docket.add(Job, { id: 1, fails: 0 })
      yield* DocketTest.drain(Jobs)
      const [attempt] = of("Job")
      const [inside] = of("inside")
      assert.deepStrictEqual(
        inside?.parent.pipe(Option.map(({ spanId }) => spanId)),
        Option.some(attempt?.spanId ?? "")
      )
      assert.deepStrictEqual(attempt?.links, [])
    }).pipe(Effect.provide(Layer.provideMerge(bundle(Effect.withSpan(Effect.void, "inside")), layer)))
  })

  it.effect("keep their link for a run in the far future", () => {
    const { layer, of } = tracing()
    return Effect.gen(function*() {
      yield* Effect.withSpan(Docket.add(Job, { id: 1, fails: 0 }, { after: "300 days" }), "request")
      yield* DocketTest.drain(Jobs)
      assert.strictEqual(of("Job")[0]?.links[0]?.span.spanId, of("request")[0]?.spanId)
    }).pipe(Effect.provide(Layer.provideMerge(bundle(), layer)))
  })

  it.effect("are not made without a tracer, and nothing is linked", () =>
    Effect.gen(function*() {
      const docket = yield* Docket.Docket
      const spans: Array<unknown> = []
      const watched = Context.make(Docket.Docket, {
        ...docket,
        addEncoded: (additions, options) => {
          spans.push(...additions.map(({ trace }) => trace))
          return docket.addEncoded(additions, options)
        }
      })
      yield* Docket.add(Job, { id: 1, fails: 0 }).pipe(
        Effect.withSpan("request"),
        Effect.provide(Layer.provide(Layer.fresh(Jobs.client), Layer.succeedContext(watched)))
      )
      assert.deepStrictEqual(spans, [undefined])
      yield* DocketTest.drain(Jobs)
      assert.deepStrictEqual(seen, [Option.none()])
    }).pipe(Effect.provide(bundle(Effect.flatMap(Effect.option(Effect.currentSpan), (span) =>
      Effect.sync(() => seen.push(span)))))))
  const seen: Array<Option.Option<Tracer.Span>> = []
})
