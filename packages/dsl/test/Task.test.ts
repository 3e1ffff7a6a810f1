import { type Perpetual, Progress, Retry, Task, TaskFailure } from "@effect-docket/dsl"
import { assert, describe, it } from "@effect/vitest"
import { Context, Cron, Duration, Effect, Layer, Result, Schedule, Schema } from "effect"
import { invalidOption, thrown } from "../../runtime/test/Kit.ts"
import * as handler from "../src/internal/handler.ts"
import * as options from "../src/internal/options.ts"

class Busy extends Schema.TaggedError<Busy>()("Busy", {}) {}
class Payload extends Schema.Class<Payload>("Payload")({ id: Schema.Int }) {}

describe("Task.make", () => {
  it("makes a definition that a class may extend, with the task as its statics", () => {
    class Send extends Task.make("Send", {
      payload: { to: Schema.String },
      success: Schema.Int,
      error: Busy,
      progress: Schema.Finite
    }) {
      static readonly more = "mine"
    }
    assert.strictEqual(Send.name, "Send")
    assert.strictEqual(Send._tag, "Send")
    assert.strictEqual(Send.more, "mine")
    assert.isTrue(Task.isTask(Send))
    assert.strictEqual(Send.successSchema, Schema.Int)
    assert.strictEqual(Send.errorSchema, Busy)
    assert.strictEqual(Send.progressSchema, Schema.Finite)
    assert.deepStrictEqual(Object.keys(Send.payloadSchema.fields), ["to"])
    assert.strictEqual(Send.pipe((task) => task._tag), "Send")
  })

  it("takes a payload as fields, as a schema or as a class, and defaults to nothing at all", () => {
    assert.strictEqual(Task.make("A", { payload: Schema.NonEmptyString }).payloadSchema, Schema.NonEmptyString)
    assert.strictEqual(Task.make("A", { payload: Payload }).payloadSchema, Payload)
    const plain = Task.make("A")
    assert.strictEqual(plain.payloadSchema, Schema.Void)
    assert.strictEqual(plain.successSchema, Schema.Void)
    assert.strictEqual(plain.errorSchema, Schema.Never)
    assert.strictEqual(plain.progressSchema, Progress.Counter)
  })

  it("keeps two tasks apart, whatever their tags are", () => {
    class A extends Task.make("Same", { lane: "a" }) {}
    class B extends Task.make("Same", { lane: "b" }) {}
    assert.strictEqual(options.resolved(A).lane, "a")
    assert.strictEqual(options.resolved(B).lane, "b")
    assert.notStrictEqual<unknown>(A, B)
  })

  it("is no task where it is something else", () => {
    for (const value of [undefined, null, {}, "Send", () => {}, Date, Schema.String]) {
      assert.isFalse(Task.isTask(value))
    }
  })

  it("reads options with their defaults", () => {
    const { defectRetryPolicy, gates, key, lane, perpetual, priority, retention, retry, timeout, version } = options
      .resolved(Task.make("A"))
    assert.deepStrictEqual({
      defectRetryPolicy,
      gates,
      key,
      lane,
      perpetual,
      priority,
      retention,
      retry,
      timeout,
      version
    }, {
      defectRetryPolicy: undefined,
      gates: undefined,
      key: undefined,
      lane: "default",
      perpetual: undefined,
      priority: 0,
      retention: { success: 86_400_000, failure: 14 * 86_400_000 },
      retry: undefined,
      timeout: undefined,
      version: 1
    })
    const retentionOf = (retention: Task.Options<void, void, never>["retention"]) =>
      options.resolved(Task.make("A", { retention })).retention
    assert.deepStrictEqual(retentionOf("1 hour"), { success: 3_600_000, failure: 3_600_000 })
    assert.deepStrictEqual(retentionOf({ success: 0 }), { success: 0, failure: 14 * 86_400_000 })
    assert.deepStrictEqual(retentionOf({ failure: 5 }), { success: 86_400_000, failure: 5 })
    assert.deepStrictEqual(retentionOf(Duration.seconds(1)), { success: 1000, failure: 1000 })
    assert.deepStrictEqual(retentionOf({ minutes: 1 } as Duration.Input), { success: 60_000, failure: 60_000 })
    assert.deepStrictEqual(
      options.resolved(Task.make("A", { timeout: "1 minute", priority: -3, lane: "l", version: 7 })),
      { ...options.resolved(Task.make("A")), timeout: 60_000, priority: -3, lane: "l", version: 7 }
    )
    const whole = { key: undefined, scope: undefined }
    assert.deepStrictEqual(
      options.resolved(
        Task.make("A", {
          concurrency: { max: 2 },
          rateLimit: { limit: 1, window: 5 },
          cooldown: { for: 1, scope: "s" },
          debounce: "1 second"
        })
      ).gates,
      {
        concurrency: { max: 2, ...whole },
        rateLimit: { limit: 1, window: 5, drops: false, ...whole },
        cooldown: { for: 1, key: undefined, scope: "s" },
        debounce: { for: 1000, max: undefined, keepsFirst: false, ...whole }
      }
    )
  })
})

describe("A bad option", () => {
  type Bad = Record<string, unknown>
  const make = (bad: Bad) => Task.make("Bad", bad)
  const table: ReadonlyArray<readonly [option: string, bad: Bad]> = [
    ["concurrency", { concurrency: 0 }],
    ["concurrency", { concurrency: -1 }],
    ["concurrency", { concurrency: 1.5 }],
    ["concurrency", { concurrency: Number.NaN }],
    ["concurrency", { concurrency: "3" }],
    ["concurrency", { concurrency: { max: 0 } }],
    ["concurrency.scope", { concurrency: { max: 1, scope: "" } }],
    ["rateLimit.limit", { rateLimit: { limit: 10_001, window: "1 second" } }],
    ["rateLimit.excess", { rateLimit: { limit: 1, window: "1 second", excess: "queue" } }],
    ["rateLimit.scope", { rateLimit: { limit: 1, window: "1 second", scope: "" } }],
    ["rateLimit.window", { rateLimit: { limit: 1, window: "Infinity" } }],
    ["rateLimit.limit", { rateLimit: { limit: 0, window: "1 second" } }],
    ["rateLimit.limit", { rateLimit: { limit: 0.5, window: "1 second" } }],
    ["rateLimit.window", { rateLimit: { limit: 1, window: 0 } }],
    ["rateLimit.window", { rateLimit: { limit: 1, window: "soon" } }],
    ["cooldown", { cooldown: 0 }],
    ["cooldown", { cooldown: "-1 seconds" }],
    ["cooldown", { cooldown: { for: 0 } }],
    ["cooldown.scope", { cooldown: { for: 1, scope: "" } }],
    ["debounce.max", { debounce: { for: 2, max: 1 } }],
    ["debounce.payload", { debounce: { for: 1, payload: "all" } }],
    ["debounce.scope", { debounce: { for: 1, scope: "s" } }],
    ["debounce", { debounce: "Infinity" }],
    ["debounce", { debounce: 0 }],
    ["debounce", { debounce: { for: "later" } }],
    ["timeout", { timeout: 0 }],
    ["timeout", { timeout: -5 }],
    ["timeout", { timeout: "a while" }],
    ["timeout", { timeout: {} }],
    ["lane", { lane: "" }],
    ["priority", { priority: 0.5 }],
    ["priority", { priority: Number.NaN }],
    ["priority", { priority: Infinity }],
    ["retention.success", { retention: -1 }],
    ["retention.success", { retention: { success: "long" } }],
    ["retention.failure", { retention: { failure: -1 } }],
    ["version", { version: 0 }],
    ["version", { version: -1 }],
    ["version", { version: 1.5 }],
    ["version", { version: "2" }],
    ["perpetual.every", { perpetual: { every: 0 } }],
    ["perpetual.every", { perpetual: { every: -1 } }],
    ["perpetual.every", { perpetual: { every: "Infinity" } }],
    ["perpetual.every", { perpetual: { every: "often" } }],
    ["perpetual.every", { perpetual: {} }],
    ["perpetual.cron", { perpetual: { cron: "" } }],
    ["perpetual.cron", { perpetual: { cron: "often" } }],
    ["perpetual.cron", { perpetual: { cron: "61 * * * *" } }],
    ["perpetual.cron", { perpetual: { cron: "* * *" } }],
    ["perpetual.cron", { perpetual: { cron: "@never" } }],
    ["perpetual.cron", { perpetual: { cron: "0 0 31 2 *" } }],
    ["perpetual.timeZone", { perpetual: { cron: "0 0 * * *", timeZone: "Mars/Olympus" } }],
    ["perpetual.jitter", { perpetual: { every: "1 minute", jitter: -1 } }],
    ["perpetual.jitter", { perpetual: { every: "1 minute", jitter: "1 minute" } }],
    ["perpetual.jitter", { perpetual: { cron: "0 9-17 * * *", jitter: "1 hour" } }],
    ["perpetual.overlap", { perpetual: { every: "1 minute", overlap: "allow", catchUp: "all" } }]
  ]
  for (const [option, bad] of table) {
    it(`${option} is refused by name when the task is made: ${JSON.stringify(bad)}`, () => {
      const error = thrown(() => make(bad))
      assert.strictEqual(invalidOption(error), option)
      assert.include(String(error), "task \"Bad\"")
    })
  }

  it("such as an empty tag is refused", () => {
    assert.strictEqual(invalidOption(thrown(() => Task.make(""))), "tag")
  })

  it("is refused as an annotation, too", () => {
    class Fine extends Task.make("Fine") {}
    assert.strictEqual(invalidOption(thrown(() => Fine.annotate(Task.Timeout, -1))), "timeout")
    assert.strictEqual(invalidOption(thrown(() => Fine.annotateMerge(Context.make(Task.Lane, "")))), "lane")
  })
})

describe("A perpetual option", () => {
  const recurrence = <const P extends Perpetual.Options>(perpetual: P) =>
    options.resolved(Task.make("Tick", { perpetual: perpetual as Perpetual.Every })).perpetual

  it("has defaults", () => {
    assert.deepStrictEqual(recurrence({ every: "1 minute" }), {
      automatic: false,
      overlap: "skip",
      catchUp: "latest",
      jitter: 0,
      next: { _tag: "Every", millis: 60_000 }
    })
  })

  it("takes cron expressions of five and six fields, the usual names, and values", () => {
    const next = (cron: string | Cron.Cron, timeZone?: string) => {
      const read = recurrence({ cron, timeZone })?.next
      return read?._tag === "Cron" ? Cron.next(read.cron, new Date("2026-01-01T12:00:30Z")).toISOString() : undefined
    }
    assert.strictEqual(next("*/5 * * * *"), "2026-01-01T12:05:00.000Z")
    assert.strictEqual(next("*/5 * * * * *"), "2026-01-01T12:00:35.000Z")
    assert.strictEqual(next("@hourly"), "2026-01-01T13:00:00.000Z")
    assert.strictEqual(next("@daily"), "2026-01-02T00:00:00.000Z")
    assert.strictEqual(next("@midnight"), "2026-01-02T00:00:00.000Z")
    assert.strictEqual(next("@weekly"), "2026-01-04T00:00:00.000Z")
    assert.strictEqual(next("@monthly"), "2026-02-01T00:00:00.000Z")
    assert.strictEqual(next("@yearly"), "2027-01-01T00:00:00.000Z")
    assert.strictEqual(next("0 3 * * *", "Europe/Rome"), "2026-01-02T02:00:00.000Z")
    assert.strictEqual(next(Cron.parseUnsafe("0 3 * * *", "Asia/Tokyo")), "2026-01-01T18:00:00.000Z")
  })
})

describe("Annotations", () => {
  class Base
    extends Task.make("Base", { payload: { id: Schema.Int }, lane: "own", retry: Schedule.recurs(1), error: Busy })
  {}

  it("make another task of the same tag and schemas, and leave the first as it was", () => {
    const other = Base.annotate(Task.Lane, "changed")
    assert.strictEqual(other._tag, "Base")
    assert.isTrue(Task.isTask(other))
    assert.strictEqual(other.payloadSchema, Base.payloadSchema)
    assert.strictEqual(options.resolved(other).lane, "changed")
    assert.strictEqual(options.resolved(Base).lane, "own")
    assert.strictEqual(options.resolved(other).retry, options.resolved(Base).retry)
  })

  it("may be merged, and chained; the last one wins", () => {
    const other = Base
      .annotateMerge(Context.make(Task.Lane, "merged").pipe(Context.add(Task.Priority, 7)))
      .annotate(Task.Priority, 8)
    const { lane, priority } = options.resolved(other)
    assert.deepStrictEqual([lane, priority], ["merged", 8])
  })

  it("hold every option that a group may set", () => {
    const schedule = Schedule.recurs(1)
    const { defectRetryPolicy, gates, priority, retention, retry, timeout } = options.resolved(
      Task.make("A", { error: Busy })
        .annotate(Task.Retry, schedule)
        .annotate(Task.DefectRetryPolicy, schedule)
        .annotate(Task.Timeout, "1 second")
        .annotate(Task.Concurrency, 1)
        .annotate(Task.RateLimit, { limit: 1, window: 1 })
        .annotate(Task.Cooldown, 1)
        .annotate(Task.Priority, 2)
        .annotate(Task.Retention, { success: 1, failure: 2 })
    )
    assert.deepStrictEqual(
      { defectRetryPolicy, gates, priority, retention, retry, timeout },
      {
        defectRetryPolicy: schedule,
        gates: {
          concurrency: { max: 1, key: undefined, scope: undefined },
          rateLimit: { limit: 1, window: 1, drops: false, key: undefined, scope: undefined },
          cooldown: { for: 1, key: undefined, scope: undefined },
          debounce: undefined
        },
        priority: 2,
        retention: { success: 1, failure: 2 },
        retry: schedule,
        timeout: 1000
      }
    )
  })

  it("of users stay with the task", () => {
    class Owner extends Context.Service<Owner, string>()("test/Owner") {}
    const owned: { readonly annotations: Context.Context<never> } = Base.annotate(Owner, "billing")
    assert.strictEqual(Context.getUnsafe(owned.annotations, Owner), "billing")
  })
})

describe("task.toLayer", () => {
  class Double extends Task.make("Double", { payload: { n: Schema.Int }, success: Schema.Int }) {}
  class Factor extends Context.Service<Factor, number>()("test/Factor") {}

  const call = (n: number) =>
    Effect.flatMap(
      Effect.context<Task.Handler<"Double">>(),
      (context) => Context.get(context, handler.key("Double")).handler({ n })
    )

  it.effect("takes a function, or an effect that gives one", () =>
    Effect.gen(function*() {
      const one = Double.toLayer(({ n }) => Effect.succeed(n * 2))
      const two = Double.toLayer(Effect.map(Factor, (factor) => ({ n }) => Effect.succeed(n * factor)))
      assert.strictEqual(yield* call(2).pipe(Effect.provide(one)), 4)
      assert.strictEqual(yield* call(2).pipe(Effect.provide(Layer.provide(two, Layer.succeed(Factor, 5)))), 10)
    }))

  it.effect("fails as its build fails", () =>
    Effect.gen(function*() {
      const layer = Double.toLayer(
        Effect.as(Effect.fail("no database"), ({ n }: { readonly n: number }) => Effect.succeed(n))
      )
      assert.strictEqual(yield* Effect.flip(Effect.scoped(Layer.build(layer))), "no database")
    }))
})

describe("Task.outcome", () => {
  class Pay extends Task.make("Pay", { success: Schema.Int, error: Busy }) {}

  it.effect("is a schema of results: success, declared error, or failure", () =>
    Effect.gen(function*() {
      const codec = Schema.fromJsonString(Schema.toCodecJson(Task.outcome(Pay)))
      const roundTrip = (value: typeof codec.Type) =>
        Effect.flatMap(Schema.encodeEffect(codec)(value), Schema.decodeEffect(codec))
      const lost = new TaskFailure.TaskFailure({ task: "Pay", key: "k", reason: new TaskFailure.Lost({ attempts: 2 }) })
      assert.deepStrictEqual(yield* roundTrip(Result.succeed(3)), Result.succeed(3))
      const busy = yield* roundTrip(Result.fail(new Busy()))
      assert.isTrue(Result.isFailure(busy) && busy.failure instanceof Busy)
      const failed = yield* roundTrip(Result.fail(lost))
      assert.strictEqual(Result.isFailure(failed) ? failed.failure.message : "", lost.message)
    }))
})

describe("Retry rules", () => {
  it("are data", () => {
    assert.deepStrictEqual(Retry.never, { _tag: "Never" })
    assert.deepStrictEqual(Retry.after("1 minute"), { _tag: "After", delay: Duration.minutes(1) })
    assert.deepStrictEqual(Retry.snooze(5), { _tag: "Snooze", delay: Duration.millis(5) })
  })
})
