import { Docket, Task, TaskGroup } from "@effect-docket/dsl"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer, Schedule, Schema } from "effect"
import { encoded, invalidOption, thrown } from "../../runtime/test/Kit.ts"
import * as client from "../src/internal/client.ts"
import * as handler from "../src/internal/handler.ts"
import * as options from "../src/internal/options.ts"

class A extends Task.make("A", { payload: { id: Schema.Int }, success: Schema.Int }) {}
class B extends Task.make("B", { lane: "own", retention: "1 hour" }) {}
class C extends Task.make("C") {}

const tagsOf = (group: TaskGroup.Any) => [...group.tasks.keys()]
const laneOf = (group: TaskGroup.Any, tag: string) => options.resolved(group.tasks.get(tag)!).lane

describe("A group", () => {
  it("is a class with its tasks by tag", () => {
    class Group extends TaskGroup.make(A, B) {}
    assert.deepStrictEqual(tagsOf(Group), ["A", "B"])
    assert.strictEqual<unknown>(Group.tasks.get("A"), A)
    assert.deepStrictEqual(Group.pipe(tagsOf), ["A", "B"])
    assert.deepStrictEqual(tagsOf(TaskGroup.make()), [])
  })

  it("grows, merges and shrinks without changing the groups it came from", () => {
    const one = TaskGroup.make(A)
    const two = one.add(B, C)
    const three = TaskGroup.make(C).merge(one, TaskGroup.make(B))
    assert.deepStrictEqual(tagsOf(two), ["A", "B", "C"])
    assert.deepStrictEqual(tagsOf(three), ["C", "A", "B"])
    assert.deepStrictEqual(tagsOf(two.omit("A", "C")), ["B"])
    assert.deepStrictEqual(tagsOf(one), ["A"])
  })

  it("takes the same task twice, and refuses two different ones with one tag", () => {
    class Payload extends Task.make("A", { payload: { other: Schema.String } }) {}
    class Success extends Task.make("C", { success: Schema.Int }) {}
    class Failure extends Task.make("C", { error: Schema.String }) {}
    assert.deepStrictEqual(tagsOf(TaskGroup.make(A, A).add(A).merge(TaskGroup.make(A))), ["A"])
    assert.deepStrictEqual(tagsOf(TaskGroup.make(C).add(C.annotate(Task.Lane, "x"))), ["C"])
    for (
      const make of [
        () => TaskGroup.make(A, Payload),
        () => TaskGroup.make(A).add(Payload),
        () => TaskGroup.make(A).merge(TaskGroup.make(Payload)),
        () => TaskGroup.make(C, Success),
        () => TaskGroup.make(C, Failure)
      ]
    ) {
      const error = thrown(make)
      assert.strictEqual(invalidOption(error), "tasks")
      assert.match(String(error), /"[AC]"/)
    }
  })

  it("sets defaults for the tasks added so far; what a task says itself wins", () => {
    const group = TaskGroup.make(A, B).annotateTasks(Task.Lane, "group").add(C)
    assert.deepStrictEqual(tagsOf(group).map((tag) => laneOf(group, tag)), ["group", "own", "default"])
    assert.strictEqual(options.resolved(A).lane, "default")
    const merged = TaskGroup.make(A, B).annotateTasksMerge(
      Context.make(Task.Lane, "merged").pipe(Context.add(Task.Retention, { success: 1, failure: 2 }))
    )
    assert.deepStrictEqual(["A", "B"].map((tag) => laneOf(merged, tag)), ["merged", "own"])
    assert.deepStrictEqual(options.resolved(merged.tasks.get("A")!).retention, { success: 1, failure: 2 })
    assert.deepStrictEqual(options.resolved(merged.tasks.get("B")!).retention, {
      success: 3_600_000,
      failure: 3_600_000
    })
  })

  it("an annotation of the task wins over the group's, before and after", () => {
    const before = TaskGroup.make(A.annotate(Task.Lane, "task")).annotateTasks(Task.Lane, "group")
    assert.strictEqual(laneOf(before, "A"), "task")
    const schedule = Schedule.recurs(3)
    const twice = TaskGroup.make(A).annotateTasks(Task.Retry, schedule).annotateTasks(Task.Retry, Schedule.recurs(4))
    assert.strictEqual(options.resolved(twice.tasks.get("A")!).retry, schedule)
  })

  it("refuses a bad default when it is set", () => {
    const group = TaskGroup.make(A, B)
    assert.strictEqual(invalidOption(thrown(() => group.annotateTasks(Task.Lane, ""))), "lane")
    assert.strictEqual(invalidOption(thrown(() => group.annotateTasks(Task.Concurrency, 0))), "concurrency")
  })
})

describe("group.toLayer", () => {
  class Group extends TaskGroup.make(A, B) {}
  const tags = <R>(layer: Layer.Layer<R>) =>
    Effect.scoped(
      Effect.map(Layer.build(layer), (context) =>
        ["A", "B", "C"].filter((tag) => context.mapUnsafe.has(handler.key(tag).key)))
    )

  it.effect("has one handler per task, from a record or from an effect of it", () =>
    Effect.gen(function*() {
      const handlers = Group.of({ A: ({ id }) => Effect.succeed(id), B: () => Effect.void })
      assert.deepStrictEqual(yield* tags(Group.toLayer(handlers)), ["A", "B"])
      assert.deepStrictEqual(yield* tags(Group.toLayer(Effect.succeed(handlers))), ["A", "B"])
    }))

  it.effect("and one of them at a time", () =>
    Effect.gen(function*() {
      const one = Group.toLayerHandler("B", () => Effect.void)
      assert.deepStrictEqual(yield* tags(one), ["B"])
      const both = Layer.merge(one, Group.toLayerHandler("A", Effect.succeed(({ id }) => Effect.succeed(id))))
      assert.deepStrictEqual(yield* tags(both), ["A", "B"])
    }))
})

describe("A client", () => {
  /** A docket that keeps what it is given. */
  const bundle = () => {
    const added: Array<Docket.EncodedAddition> = []
    const docket = {
      name: "fake",
      addEncoded: (additions) =>
        Effect.sync(() => {
          added.push(...additions)
          return additions.map(() => ({ disposition: "Added" as const, generation: 1, due: 0 }))
        })
    } satisfies Partial<Docket.Docket["Service"]>
    // no other operation is called
    return { added, layer: Layer.succeed(Docket.Docket, docket as unknown as Docket.Docket["Service"]) }
  }

  const granted = <R>(layer: Layer.Layer<R, never, Docket.Docket>) =>
    Effect.scoped(
      Effect.map(Layer.build(Layer.provide(layer, bundle().layer)), (context) =>
        ["A", "B", "C"].filter((tag) => context.mapUnsafe.has(client.key(tag).key)))
    )

  it.effect("of a group grants its tasks, and no others", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* granted(TaskGroup.make(A, B).client), ["A", "B"])
      assert.deepStrictEqual(yield* granted(TaskGroup.make(A, B).omit("A").client), ["B"])
      assert.deepStrictEqual(yield* granted(C.client), ["C"])
    }))

  it("is the same layer each time, so that it is built once", () => {
    class Group extends TaskGroup.make(A, B) {}
    assert.strictEqual(Group.client, Group.client)
    assert.strictEqual(A.client, A.client)
    assert.notStrictEqual<unknown>(A.client, B.client)
  })

  it.effect("adds with the lane, retention and priority of its group, unless the task has its own", () => {
    const { added, layer } = bundle()
    const group = TaskGroup.make(A, B).annotateTasksMerge(
      Context.make(Task.Lane, "group").pipe(
        Context.add(Task.Priority, 5),
        Context.add(Task.Retention, { success: 1, failure: 2 })
      )
    )
    return Effect.gen(function*() {
      yield* Docket.addAll([[A, { id: 1 }], [B, undefined]])
      assert.deepStrictEqual(added.map(({ lane, priority, retention }) => [lane, priority, retention]), [
        ["group", 5, { success: 1, failure: 2 }],
        ["own", 5, { success: 3_600_000, failure: 3_600_000 }]
      ])
      // what is given to `add` is asked first
      yield* Docket.add(A.annotate(Task.Lane, "here"), { id: 1 })
      assert.strictEqual(added[2]?.lane, "here")
    }).pipe(Effect.provide(Layer.provide(group.client, layer)))
  })

  it.effect("writes plain data", () => {
    const { added, layer } = bundle()
    return Effect.gen(function*() {
      yield* Docket.add(A, { id: 1 }, { key: "k", after: "1 second", onExisting: "replace" })
      const [{ trace, ...addition } = encoded({ task: "", key: "" })] = added
      assert.isUndefined(trace)
      assert.deepStrictEqual(addition, {
        task: "A",
        version: 1,
        key: "k",
        payload: "{\"id\":1}",
        due: { after: 1000 },
        onExisting: "replace",
        lane: "default",
        priority: 0,
        retention: { success: 86_400_000, failure: 14 * 86_400_000 }
      })
    }).pipe(Effect.provide(Layer.provide(A.client, layer)))
  })
})
