import { DocketError, Gather, Task, TaskFailure } from "@effect-docket/dsl"
import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, DateTime, Effect, Option, Schema } from "effect"

class Busy extends Schema.TaggedError<Busy>()("Busy", { retryAfter: Schema.Duration }) {}
class Broken extends Schema.TaggedError<Broken>()("Broken", { at: Schema.DateTimeUtc }) {}
class Chunk extends Task.make("Chunk", {
  payload: { n: Schema.Int },
  success: Schema.Struct({ at: Schema.DateTimeUtc, note: Schema.Option(Schema.String) }),
  error: Schema.Union([Busy, Broken])
}) {}
class Touch extends Task.make("Touch", { payload: { n: Schema.Int } }) {}

type Child = Gather.Gathered<typeof Chunk>["children"][number]

const at = DateTime.makeUnsafe("2026-01-02T03:04:05.678Z")
const failure = (reason: TaskFailure.Reason) => new TaskFailure.TaskFailure({ task: "Chunk", key: "k", reason })

const children: ReadonlyArray<Child> = [
  { _tag: "Done", index: 0, key: "a", value: { at, note: Option.some("ok") } },
  { _tag: "Failed", index: 1, key: "b", error: new Broken({ at }) },
  { _tag: "Died", index: 2, key: "c", failure: failure(new TaskFailure.Struck({ reason: "stop" })) },
  { _tag: "Cancelled", index: 3, key: "d" },
  { _tag: "Pending", index: 4, key: "e" }
]
const gathered: Gather.Gathered<typeof Chunk> = { reason: "DeadlinePassed", releasedAt: at, children }

const json = <T extends Task.Any>(task: T) => Schema.fromJsonString(Schema.toCodecJson(Gather.schema(task)))
const encoded = (gathered: Gather.Gathered<typeof Chunk>) => Schema.encodeEffect(json(Chunk))(gathered)

describe("Gather", () => {
  describe("policies", () => {
    it("are data", () => {
      assert.deepStrictEqual(Gather.allSucceed, { _tag: "AllSucceed" })
      assert.deepStrictEqual(Gather.allSettled, { _tag: "AllSettled" })
      assert.deepStrictEqual(Gather.quorum(3), { _tag: "Quorum", atLeast: 3 })
    })

    it.each([0, -1, 1.5, Number.NaN, Infinity])("a quorum of %s is refused", (atLeast) => {
      assert.throws(
        () => Gather.quorum(atLeast),
        DocketError.DocketError,
        `Gather.quorum: option \`atLeast\`: has to be an integer of at least 1, it is ${atLeast}`
      )
    })
  })

  describe("schema", () => {
    it.effect("writes tagged JSON", () =>
      Effect.gen(function*() {
        const text = yield* encoded({ ...gathered, children: children.filter((child) => child._tag !== "Died") })
        assert.deepStrictEqual(JSON.parse(text), {
          reason: "DeadlinePassed",
          releasedAt: "2026-01-02T03:04:05.678Z",
          children: [
            {
              _tag: "Done",
              index: 0,
              key: "a",
              value: { at: "2026-01-02T03:04:05.678Z", note: { _tag: "Some", value: "ok" } }
            },
            { _tag: "Failed", index: 1, key: "b", error: { _tag: "Broken", at: "2026-01-02T03:04:05.678Z" } },
            { _tag: "Cancelled", index: 3, key: "d" },
            { _tag: "Pending", index: 4, key: "e" }
          ]
        })
      }))

    const reasons: ReadonlyArray<Gather.Gathered<typeof Chunk>["reason"]> = [
      "AllSettled",
      "QuorumMet",
      "QuorumImpossible",
      "DeadlinePassed"
    ]
    it.effect.each(reasons)("keeps the reason %s", (reason) =>
      Effect.gen(function*() {
        const back = yield* Schema.decodeEffect(json(Chunk))(yield* encoded({ ...gathered, reason, children: [] }))
        assert.deepStrictEqual(back, { reason, releasedAt: at, children: [] })
      }))

    const failures: ReadonlyArray<TaskFailure.Reason> = [
      new TaskFailure.Cancelled(),
      new TaskFailure.Expired({ dueAt: at }),
      new TaskFailure.Lost({ attempts: 3 }),
      new TaskFailure.Gone()
    ]
    it.effect("keeps every kind of child, and its classes", () =>
      Effect.gen(function*() {
        const all = {
          ...gathered,
          children: [
            ...children,
            ...failures.map((reason, i): Child => ({
              _tag: "Died",
              index: 5 + i,
              key: `f${i}`,
              failure: failure(reason)
            }))
          ]
        }
        const back = yield* Schema.decodeEffect(json(Chunk))(yield* encoded(all))
        assert.isTrue(Schema.toEquivalence(Gather.schema(Chunk))(back, all))
        assert.deepStrictEqual(back.children.map((child) => child._tag), all.children.map((child) => child._tag))
        assert.instanceOf(Gather.failures(back)[0], Broken)
        const died = back.children[2]
        assert.isTrue(died?._tag === "Died" && died.failure instanceof TaskFailure.TaskFailure)
      }))

    it.effect("keeps whatever the schema of the task allows", () =>
      Effect.gen(function*() {
        const schema = Gather.schema(Chunk)
        const equal = Schema.toEquivalence(schema)
        const kinds = new Set<string>()
        const result = yield* Arbitrary.checkEffect(
          Arbitrary.schema(schema),
          (value) => {
            for (const child of value.children) kinds.add(child._tag)
            return equal(Schema.decodeSync(json(Chunk))(Schema.encodeSync(json(Chunk))(value)), value)
          },
          { runs: 100, seed: "gather" }
        )
        assert.isUndefined(Arbitrary.formatCheckFailure(result))
        assert.deepStrictEqual([...kinds].toSorted(), ["Cancelled", "Died", "Done", "Failed", "Pending"])
      }))

    it.effect("works for a task without success value and errors", () =>
      Effect.gen(function*() {
        const done: Gather.Gathered<typeof Touch> = {
          reason: "QuorumMet",
          releasedAt: at,
          children: [{ _tag: "Done", index: 0, key: "a", value: undefined }, { _tag: "Pending", index: 1, key: "b" }]
        }
        const text = yield* Schema.encodeEffect(json(Touch))(done)
        assert.deepStrictEqual(yield* Schema.decodeEffect(json(Touch))(text), done)
      }))

    const refused: ReadonlyArray<readonly [name: string, change: object]> = [
      ["an unknown reason", { reason: "Bored" }],
      ["a negative index", { children: [{ _tag: "Pending", index: -1, key: "a" }] }],
      ["an unknown kind of child", { children: [{ _tag: "Asleep", index: 0, key: "a" }] }],
      ["a child without its value", { children: [{ _tag: "Done", index: 0, key: "a" }] }],
      ["an undeclared error", { children: [{ _tag: "Failed", index: 0, key: "a", error: { _tag: "Other" } }] }]
    ]
    it.effect.each(refused)("refuses %s", ([, change]) =>
      Effect.gen(function*() {
        const stored = JSON.parse(yield* encoded(gathered)) as object
        const exit = yield* Effect.exit(Schema.decodeEffect(json(Chunk))(JSON.stringify({ ...stored, ...change })))
        assert.strictEqual(exit._tag, "Failure")
      }))

    it("is a payload schema", () => {
      class Report extends Task.make("Report", { payload: { gathered: Gather.schema(Chunk) } }) {}
      assert.deepStrictEqual(Report.payloadSchema.make({ gathered }), { gathered })
    })
  })

  describe("getters", () => {
    it("successes are the values, in order", () => {
      const more: Child = { _tag: "Done", index: 9, key: "z", value: { at, note: Option.none() } }
      assert.deepStrictEqual(Gather.successes({ ...gathered, children: [...children, more] }), [
        { at, note: Option.some("ok") },
        { at, note: Option.none() }
      ])
    })

    it("failures are the declared errors only", () => {
      assert.deepStrictEqual(Gather.failures(gathered), [new Broken({ at })])
    })

    it("unfinished are all that are not done", () => {
      const unfinished: ReadonlyArray<Child> = Gather.unfinished(gathered)
      assert.deepStrictEqual(unfinished, children.slice(1))
    })
  })
})
