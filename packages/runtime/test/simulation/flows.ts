/**
 * The flows that are simulated in CI: rows, branches, fan-outs of every policy, undoing, and running again. What the join of
 * a fan-out is given has to be right whatever happened to its items.
 */
import { Docket, Flow, Gather, Retry, Task, TaskGroup } from "@effect-docket/dsl"
import { Simulation } from "@effect-docket/runtime/testing"
import { Effect, Random, Schedule, Schema } from "effect"

class Boom extends Schema.TaggedError<Boom>()("Boom", { n: Schema.Int }) {}
class Even extends Schema.TaggedClass<Even>()("Even", { id: Schema.Int, n: Schema.Int }) {}
class Odd extends Schema.TaggedClass<Odd>()("Odd", { id: Schema.Int, n: Schema.Int }) {}

/** Which start of a flow it belongs to, and a number. */
const Item = { id: Schema.Int, n: Schema.Int }
type Item = { readonly id: number; readonly n: number }

class Work extends Task.make("Work", {
  payload: Item,
  success: Schema.Struct(Item),
  error: Boom,
  retry: { Boom: ({ n }) => n % 3 === 0 ? Retry.never : Retry.after("200 millis") },
  defectRetryPolicy: Schedule.recurs(1)
}) {}
class Narrow extends Task.make("Narrow", {
  payload: Item,
  success: Schema.Struct(Item),
  concurrency: 2,
  rateLimit: { limit: 5, window: "1 second" }
}) {}
class Decide extends Task.make("Decide", { payload: Item, success: Schema.Union([Even, Odd]) }) {}
class Split extends Task.make("Split", { payload: Item, success: Schema.Array(Schema.Struct(Item)) }) {}
class Sum extends Task.make("Sum", { payload: { id: Schema.Int, items: Schema.Array(Schema.Struct(Item)) } }) {}
class Report extends Task.make("Report", { payload: { id: Schema.Int, gathered: Gather.schema(Work) } }) {}
class Undo extends Task.make("Undo", { payload: Item }) {}

/** All of their tasks. */
class Parts extends TaskGroup.make(Work, Narrow, Decide, Split, Sum, Report, Undo) {}

const next = ({ id, n }: Item) => ({ id, n: n + 1 })
const items = ({ id, n }: Item) => Array.from({ length: n }, (_, index) => ({ id, n: index }))

class Row extends Flow.make(
  "Row",
  Narrow.pipe(Flow.andThen(Work, next), Flow.sleep("700 millis"), Flow.andThen(Narrow, next))
) {}
class Branch extends Flow.make("Branch", Decide.pipe(Flow.match({ Even: Work, Odd: Narrow }))) {}
class Total extends Flow.make(
  "Total",
  Split.pipe(
    Flow.forEach(Narrow),
    Flow.andThen(Sum, (all) => ({ id: all[0]?.id ?? 0, items: all }))
  )
) {}
class Settled extends Flow.make(
  "Settled",
  Split.pipe(
    Flow.forEach(Work, { policy: Gather.allSettled, deadline: "4 seconds" }),
    Flow.andThen(Report, (gathered) => ({ id: 0, gathered }))
  )
) {}
class Quorum extends Flow.make(
  "Quorum",
  Flow.input(Schema.Struct(Item)).pipe(
    Flow.forEach(Work, {
      items,
      policy: Gather.quorum(2),
      deadline: "10 seconds",
      concurrency: 2,
      over: "1 second",
      onRelease: "cancelRest"
    }),
    Flow.andThen(Report, (gathered) => ({ id: 0, gathered }))
  )
) {}
class Strict extends Flow.make(
  "Strict",
  Flow.input(Schema.Struct(Item)).pipe(
    Flow.forEach(Work, { items, onRelease: "cancelRest" }),
    Flow.andThen(Sum, (all) => ({ id: all[0]?.id ?? 0, items: all })),
    Flow.catchTag("Boom", Undo, ({ n }) => ({ id: 0, n }))
  )
) {}
class Saga extends Flow.make(
  "Saga",
  Narrow.pipe(
    Flow.compensate(Undo),
    Flow.andThen(Narrow, next),
    Flow.compensate(Undo),
    Flow.andThen(Work, next)
  )
) {}
class Both extends Flow.make(
  "Both",
  Flow.input(Schema.Struct(Item)).pipe(
    Flow.all({ left: Narrow, right: Work.pipe(Flow.andThen(Narrow)) }),
    Flow.map(({ left, right }) => ({ id: left.id, n: left.n + right.n })),
    Flow.deadline("6 seconds")
  )
) {}

class Patient extends Flow.make(
  "Patient",
  Narrow.pipe(Flow.sleep("10 minutes"), Flow.andThen(Work, next), Flow.deadline("3 seconds"))
) {}

class Again extends Flow.make(
  "Again",
  Decide.pipe(Flow.match({
    Even: Flow.again({ after: "300 millis", input: ({ id, n }: Even) => ({ id, n: n + 1 }) }),
    Odd: Narrow
  }))
) {}

class Nested extends Flow.make("Nested", Narrow.pipe(Flow.andThen(Again, next), Flow.andThen(Branch))) {}
class Caught extends Flow.make(
  "Caught",
  Work.pipe(
    Flow.andThen(Narrow, next),
    Flow.deadline("1 second"),
    Flow.catchTags({
      Boom: Undo.pipe(Flow.mapInput(({ n }: Boom) => ({ id: 0, n }))),
      TaskFailure: Undo.pipe(Flow.mapInput(() => ({ id: 0, n: 0 })))
    })
  )
) {}
class Tried extends Flow.make(
  "Tried",
  Flow.input(Schema.Struct(Item)).pipe(
    Flow.outcomes({ left: Work, right: Narrow.pipe(Flow.andThen(Work, next)) }),
    Flow.map(({ left, right }) => ({ id: 0, n: Number(left._tag === "Success") + Number(right._tag === "Success") })),
    Flow.when(({ n }) => n > 0, Narrow)
  )
) {}
class Spread extends Flow.make(
  "Spread",
  Flow.input(Schema.Struct(Item)).pipe(
    Flow.forEach(Branch, {
      items,
      policy: Gather.allSettled,
      deadline: "20 seconds",
      over: "2 seconds",
      jitter: "300 millis",
      onRelease: "letRun"
    }),
    Flow.map(() => ({ id: 0, n: 1 })),
    Flow.andThen(Narrow)
  )
) {}

const chance = <A>(choices: ReadonlyArray<A>): Effect.Effect<A> =>
  Effect.map(Random.nextIntBetween(0, choices.length, { halfOpen: true }), (index) => choices[index]!)

const takes = (...millis: ReadonlyArray<number>): Effect.Effect<void> =>
  Effect.flatMap(chance(millis), (length) => length === 0 ? Effect.void : Effect.sleep(length))

/** The flows, and what went wrong in their joins. */
export const flows: Effect.Effect<Simulation.Workload> = Effect.sync(() => {
  const wrong: Array<string> = []
  const begun = new Map<number, number>()
  let ids = 0

  const start = Effect.gen(function*() {
    const id = ++ids
    const n = yield* chance([0, 1, 2, 3, 6])
    begun.set(id, n)
    const input = { id, n }
    const options = { after: yield* chance([0, 0, 500, 5000]), key: `flow-${yield* chance([id, id, id % 5])}` }
    yield* yield* chance([
      Docket.start(Row, input, options),
      Docket.start(Branch, input, options),
      Docket.start(Total, input, options),
      Docket.start(Settled, input, options),
      Docket.start(Quorum, input, options),
      Docket.start(Strict, input, options),
      Docket.start(Saga, input, options),
      Docket.start(Both, input, options),
      Docket.start(Patient, input, options),
      Docket.start(Again, input, options),
      Docket.start(Nested, input, options),
      Docket.start(Caught, input, options),
      Docket.start(Tried, input, options),
      Docket.start(Spread, input, options)
    ])
  })

  const handlers = Parts.toLayer({
    Work: (item) =>
      Effect.flatMap(
        chance(["success", "success", "fail", "die"]),
        (what): Effect.Effect<Item, Boom> =>
          what === "die"
            ? Effect.die(new Error("simulated"))
            : Effect.andThen(takes(0, 100, 1500), what === "fail" ? new Boom({ n: item.n }) : Effect.succeed(item))
      ),
    Narrow: (item) => Effect.as(takes(0, 50, 800), item),
    Decide: ({ id, n }) => Effect.succeed(n % 2 === 0 ? new Even({ id, n }) : new Odd({ id, n })),
    Split: (item) => Effect.as(takes(0, 100), items(item)),
    Sum: ({ id, items }) =>
      Effect.sync(() => {
        const expected = begun.get(id) ?? 0
        if (items.length !== expected || items.some(({ n }, index) => n !== index)) {
          wrong.push(`the sum of ${id} was given ${JSON.stringify(items)} for ${expected} items`)
        }
      }),
    Report: Effect.fnUntraced(function*({ gathered: { children, reason } }) {
      // the trace shows it
      yield* Effect.logWarning(`gathered, ${reason}`)
      const done = children.filter(({ _tag }) => _tag === "Done").length
      const pending = children.filter(({ _tag }) => _tag === "Pending").length
      const isInOrder = children.every((child, index) =>
        child.index === index && (child._tag !== "Done" || child.value.n === index)
      )
      const fits = reason === "AllSettled" ? pending === 0 : reason !== "QuorumMet" || done >= 2
      if (!isInOrder || !fits) wrong.push(`${reason} with ${JSON.stringify(children)}`)
    }),
    Undo: () => takes(0, 100)
  })

  return Simulation.workload({
    group: Parts,
    flows: [Row, Branch, Total, Settled, Quorum, Strict, Saga, Both, Patient, Again, Nested, Caught, Tried, Spread],
    handlers,
    produce: start,
    verify: Effect.suspend(() => wrong.length === 0 ? Effect.void : Effect.fail(wrong.join("\n")))
  })
})
