/**
 * How the steps of a started flow are, and its graph in their colours.
 */
import { Docket, Flow, Gather, Task, TaskGroup } from "@effect-docket/dsl"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Option, Schema } from "effect"
import * as DocketTest from "../src/DocketTest.ts"

class Boom extends Schema.TaggedError<Boom>()("Boom", {}) {}
class Good extends Schema.TaggedClass<Good>()("Good", {}) {}
class Bad extends Schema.TaggedClass<Bad>()("Bad", {}) {}

class Check extends Task.make("Check", { payload: { ok: Schema.Boolean }, success: Schema.Union([Good, Bad]) }) {}
class Work extends Task.make("Work", { error: Boom }) {}
class Fine extends Task.make("Fine") {}
class Tasks extends TaskGroup.make(Check, Work, Fine) {}

const Live = Layer.mergeAll(
  Tasks.toLayer({
    Check: ({ ok }) => Effect.succeed(ok ? new Good() : new Bad()),
    Work: () => Effect.fail(new Boom()),
    Fine: () => Effect.void
  }),
  Tasks.client
).pipe(Layer.provideMerge(DocketTest.layer))

const stepsAfter = <Name extends string, A, E, Tags extends "Check" | "Work" | "Fine">(
  flow: Flow.Named<Name, { readonly ok: boolean }, A, E, Tags>,
  for_?: string
) =>
  Effect.gen(function*() {
    yield* Docket.start(flow, { ok: true }, { key: "k" })
    yield* DocketTest.drain(Tasks, { flows: [flow], ...for_ !== undefined && { for: "1 minute" } })
    const steps = Option.getOrThrow(yield* Docket.steps(flow, "k"))
    return { steps: Object.fromEntries(steps), picture: Flow.toMermaid(flow, steps) }
  }).pipe(Effect.provide(Live))

const named = (steps: Record<string, Flow.StepState>, ...paths: ReadonlyArray<string>) =>
  paths.map((path) => steps[path])

describe("Docket.steps", () => {
  it.effect("what was done, and the case that was not chosen", () =>
    Effect.gen(function*() {
      const Chosen = Flow.make("Chosen", Check.pipe(Flow.match({ Good: Fine, Bad: Work }), Flow.sleep("1 second")))
      const { picture, steps } = yield* stepsAfter(Chosen)
      assert.deepStrictEqual(named(steps, "0", "1", "1/Good/0", "1/Bad/0", "2"), [
        "Done",
        "Done",
        "Done",
        "Skipped",
        "Done"
      ])
      assert.match(picture, /^ {2}class n0,n1,n1__Good__0,n2 Done$/m)
      assert.match(picture, /^ {2}class n1__Bad__0 Skipped$/m)
    }))

  it.effect("where it waits, and what comes then", () =>
    Effect.gen(function*() {
      const Sleeping = Flow.make("Sleeping", Check.pipe(Flow.sleep("1 hour"), Flow.andThen(Fine, () => undefined)))
      const { steps } = yield* stepsAfter(Sleeping, "1 minute")
      // a sleep before a step is the delay of that step
      assert.deepStrictEqual(named(steps, "0", "1", "2/0/0"), ["Done", "Done", "Active"])
      const Gathering = Flow.make(
        "Gathering",
        Check.pipe(
          Flow.forEach(Fine.pipe(Flow.sleep("1 hour")), {
            items: () => [undefined],
            policy: Gather.allSettled,
            deadline: "1 day"
          }),
          Flow.andThen(Fine, () => undefined)
        )
      )
      const gathering = yield* stepsAfter(Gathering, "1 minute")
      assert.deepStrictEqual(named(gathering.steps, "0", "1", "1/0", "2/0/0"), ["Done", "Active", "Active", "Waiting"])
    }))

  it.effect("what failed, what was caught, and what was left out between them", () =>
    Effect.gen(function*() {
      const failing = Check.pipe(Flow.andThen(Work, () => undefined), Flow.andThen(Fine, () => undefined))
      const Failed = Flow.make("Failed", failing)
      const failed = yield* stepsAfter(Failed)
      assert.deepStrictEqual(named(failed.steps, "0", "1/0/0", "2/0/0"), ["Done", "Failed", "Waiting"])
      const Caught = Flow.make("Caught", failing.pipe(Flow.catchTag("Boom", Fine)))
      const caught = yield* stepsAfter(Caught)
      assert.deepStrictEqual(
        named(caught.steps, "0", "1/0/0", "2/0/0", "3/Boom/0"),
        ["Done", "Failed", "Skipped", "Done"]
      )
      const Undone = Flow.make(
        "Undone",
        Check.pipe(Flow.compensate(Fine, () => undefined), Flow.andThen(Work, () => undefined))
      )
      const undone = yield* stepsAfter(Undone)
      assert.deepStrictEqual(named(undone.steps, "0", "2/0/0"), ["Done", "Failed"])
    }))

  it.effect("nothing of another flow, another version, or an unknown key", () =>
    Effect.gen(function*() {
      const One = Flow.make("One", Flow.task(Fine))
      const Two = Flow.make("One", Flow.task(Fine), { version: 2 })
      yield* Docket.start(One, undefined, { key: "k" })
      assert.isTrue(Option.isSome(yield* Docket.steps(One, "k")))
      assert.isTrue(Option.isNone(yield* Docket.steps(Two, "k")))
      assert.isTrue(Option.isNone(yield* Docket.steps(One, "unknown")))
    }).pipe(Effect.provide(Live)))
})
