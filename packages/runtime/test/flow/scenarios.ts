/**
 * Small flows that have each combinator between them, what they come to whatever dies on the way, and the bodies that this
 * takes.
 */
import { Docket, Execution, Flow, Gather, Task, TaskGroup } from "@effect-docket/dsl"
import { Effect, Exit, type Layer, Option, Schema } from "effect"
import { plain } from "./definition.ts"

const N = { n: Schema.Int }

class Boom extends Schema.TaggedError<Boom>("crash/Boom")("Boom", N) {}
class Even extends Schema.TaggedClass<Even>("crash/Even")("Even", N) {}
class Odd extends Schema.TaggedClass<Odd>("crash/Odd")("Odd", N) {}

/** Takes a second; fails if `n` is 13. */
export class Work extends Task.make("Work", { payload: N, success: Schema.Struct(N), error: Boom }) {}
/** Takes no time. */
class Quick extends Task.make("Quick", { payload: N, success: Schema.Struct(N) }) {}
class Decide extends Task.make("Decide", { payload: N, success: Schema.Union([Even, Odd]) }) {}
/** `n` items: 0, 1, ... */
class Split extends Task.make("Split", { payload: N, success: Schema.Array(Schema.Struct(N)) }) {}
/** Takes 75 seconds for 0, a second for others. */
class Slow extends Task.make("Slow", { payload: N, success: Schema.Struct(N) }) {}
class Sum extends Task.make("Sum", { payload: Schema.Array(Schema.Struct(N)), success: Schema.Int }) {}
class Report extends Task.make("Report", { payload: { gathered: Gather.schema(Slow) }, success: Schema.String }) {}
class Undo extends Task.make("Undo", { payload: N }) {}
/** Fails. */
class BadUndo extends Task.make("BadUndo", { payload: N, error: Boom }) {}
class Tasks extends TaskGroup.make(Work, Quick, Decide, Split, Slow, Sum, Report, Undo, BadUndo) {}

const plus = (m: number) => ({ n }: { readonly n: number }) => ({ n: n + m })
const bad = () => ({ n: 13 })

const chain = Flow.make("Chain", Work.pipe(Flow.andThen(Quick, plus(1)), Flow.andThen(Work, plus(1))))
const branch = Flow.make("Branch", Decide.pipe(Flow.match({ Even: Work, Odd: Quick })))
const both = Flow.make(
  "Both",
  Flow.input(Schema.Struct(N)).pipe(
    Flow.all({ a: Work, b: Quick.pipe(Flow.andThen(Work, plus(5))) }),
    Flow.andThen(Sum, ({ a, b }) => [a, b])
  )
)
const bothFail = Flow.make(
  "BothFail",
  Flow.input(Schema.Struct(N)).pipe(
    Flow.all({ a: Work.pipe(Flow.compensate(Undo), Flow.sleep("1 hour")), b: Quick.pipe(Flow.andThen(Work, bad)) }),
    Flow.catchTag("Boom", Work, () => ({ n: 7 })),
    Flow.map((value) => "n" in value ? value.n : -1)
  )
)
const each = Flow.make("Each", Split.pipe(Flow.forEach(Work), Flow.andThen(Sum)))
const eachFail = Flow.make(
  "EachFail",
  Split.pipe(
    Flow.forEach(Quick.pipe(Flow.andThen(Work, ({ n }) => ({ n: n === 1 ? 13 : n }))), { onRelease: "cancelRest" }),
    Flow.andThen(Sum)
  )
)
const settled = Flow.make(
  "Settled",
  Split.pipe(
    Flow.forEach(Work, {
      policy: Gather.allSettled,
      deadline: "1 day",
      items: (items) => items.map(({ n }) => ({ n: n === 1 ? 13 : n }))
    }),
    Flow.map(({ children, reason }) => `${reason} ${children.map(({ _tag }) => _tag).join(" ")}`)
  )
)
const late = Flow.make(
  "Late",
  Split.pipe(
    Flow.forEach(Slow, { policy: Gather.allSettled, deadline: "30 seconds", onRelease: "cancelRest" }),
    Flow.andThen(Report, (gathered) => ({ gathered }))
  )
)
const quorum = Flow.make(
  "Quorum",
  Split.pipe(
    Flow.forEach(Slow, { policy: Gather.quorum(2), deadline: "1 day", onRelease: "cancelRest" }),
    Flow.sleep("10 seconds"),
    Flow.andThen(Report, (gathered) => ({ gathered }))
  )
)
const few = Flow.make("Few", Split.pipe(Flow.forEach(Work, { concurrency: 2 }), Flow.andThen(Sum)))
const fewFail = Flow.make(
  "FewFail",
  Split.pipe(
    Flow.compensate(Undo, (all) => ({ n: all.length })),
    Flow.forEach(Work, {
      concurrency: 2,
      items: (all) => all.map(({ n }) => ({ n: n === 3 ? 13 : n })),
      onRelease: "cancelRest"
    }),
    Flow.andThen(Sum)
  )
)
const saga = Flow.make(
  "Saga",
  Work.pipe(Flow.compensate(Undo), Flow.andThen(Work, plus(1)), Flow.compensate(Undo), Flow.andThen(Work, bad))
)
const badSaga = Flow.make(
  "BadSaga",
  Work.pipe(
    Flow.compensate(Undo),
    Flow.andThen(Work, plus(1)),
    Flow.compensate(BadUndo),
    Flow.andThen(Work, plus(1)),
    Flow.compensate(Undo),
    Flow.andThen(Work, bad)
  )
)
const slept = Flow.make(
  "Slept",
  Work.pipe(Flow.sleep("10 minutes"), Flow.andThen(Quick, plus(1)), Flow.sleep("5 minutes"))
)
const limited = Flow.make(
  "Limited",
  Work.pipe(
    Flow.compensate(Undo),
    Flow.sleep("1 hour"),
    Flow.deadline("30 minutes"),
    Flow.catchTag("TaskFailure", Quick, () => ({ n: 5 }))
  )
)
const again = Flow.make(
  "Again",
  Decide.pipe(Flow.match({
    Even: Quick,
    Odd: Flow.again({ after: "1 minute", input: ({ n }: Odd) => ({ n: n === 1 ? 3 : 4 }) })
  }))
)
class Inner extends Flow.make("Inner", Work.pipe(Flow.compensate(Undo), Flow.andThen(Quick))) {}
const nested = Flow.make(
  "Nested",
  Split.pipe(Flow.forEach(Inner), Flow.andThen(Inner, () => ({ n: 9 })), Flow.andThen(Work, bad))
)
const many = Flow.make("Many", Split.pipe(Flow.forEach(Quick), Flow.andThen(Sum)))

/** The bodies of one run of a flow. */
export class Bodies {
  /** What began, by what it was given, in its order. */
  readonly all: Array<string> = []
  /** How often each step began, by the name that it has in the world. */
  readonly steps = new Map<string, number>()
}

/** Where bodies are noted, by the key of their flow. */
type Books = (flow: string) => Bodies

const note = (books: Books, task: string, n: number) =>
  Execution.CurrentExecution.useSync(({ flow, key }) => {
    const { all, steps } = books(Option.getOrThrow(flow).key)
    all.push(`${task} ${n}`)
    steps.set(key, (steps.get(key) ?? 0) + 1)
  })

const handlers = (books: Books) =>
  Tasks.toLayer({
    Work: ({ n }) =>
      note(books, "Work", n).pipe(
        Effect.andThen(Effect.sleep("1 second")),
        Effect.andThen(n === 13 ? Effect.fail(new Boom({ n })) : Effect.succeed({ n }))
      ),
    Quick: ({ n }) => Effect.as(note(books, "Quick", n), { n }),
    Decide: ({ n }) => Effect.as(note(books, "Decide", n), n % 2 === 0 ? new Even({ n }) : new Odd({ n })),
    Split: ({ n }) => Effect.as(note(books, "Split", n), Array.from({ length: n }, (_, n) => ({ n }))),
    Slow: ({ n }) =>
      note(books, "Slow", n).pipe(Effect.andThen(Effect.sleep(n === 0 ? "75 seconds" : "1 second")), Effect.as({ n })),
    Sum: (all) => Effect.as(note(books, "Sum", all.length), all.reduce((sum, { n }) => sum + n, 0)),
    Report: ({ gathered }) =>
      Effect.as(
        note(books, "Report", gathered.children.length),
        `${gathered.reason} ${gathered.children.map(({ _tag }) => _tag).join(" ")}`
      ),
    Undo: ({ n }) => Effect.andThen(note(books, "Undo", n), Effect.sleep("1 second")),
    BadUndo: ({ n }) => Effect.andThen(note(books, "BadUndo", n), Effect.fail(new Boom({ n })))
  })

/** A flow, and what has to become of it. */
export interface Scenario {
  readonly name: string
  readonly flow: Flow.Named<string, { readonly n: number }, unknown, unknown>
  readonly n: number
  /** How it ends, as `value ...` or `error ...`. */
  readonly ends: string
  /** The bodies that it takes, each once if nothing goes wrong. */
  readonly bodies: ReadonlyArray<string>
  /** Bodies that may have begun or not when it ends. */
  readonly maybe?: ReadonlyArray<string>
  /** Compensations in their order. */
  readonly undone?: ReadonlyArray<string>
  /** What has to have been undone if something has begun. */
  readonly undoes?: ReadonlyArray<readonly [begun: string, undone: string]>
  /** When it is cancelled, in milliseconds after its start. */
  readonly cancelAt?: number
}

const scenario = (
  flow: unknown,
  n: number,
  ends: string,
  bodies: ReadonlyArray<string>,
  rest: Pick<Scenario, "maybe" | "undone" | "undoes" | "cancelAt"> & { readonly name?: string } = {}
): Scenario => {
  const named = flow as Scenario["flow"] // the client of a subject has the permissions for its tasks
  return { name: named._tag, flow: named, n, ends, bodies, ...rest }
}

/** The scenarios. */
export const scenarios: ReadonlyArray<Scenario> = [
  scenario(chain, 1, "value {\"n\":3}", ["Work 1", "Quick 2", "Work 3"]),
  scenario(branch, 2, "value {\"n\":2}", ["Decide 2", "Work 2"]),
  scenario(both, 1, "value 7", ["Work 1", "Quick 1", "Work 6", "Sum 2"]),
  scenario(bothFail, 1, "value 7", ["Quick 1", "Work 13", "Work 7"], { maybe: ["Work 1", "Undo 1"] }),
  scenario(each, 3, "value 3", ["Split 3", "Work 0", "Work 1", "Work 2", "Sum 3"]),
  scenario(each, 0, "value 0", ["Split 0", "Sum 0"], { name: "Each of none" }),
  scenario(eachFail, 3, "error {\"_tag\":\"Boom\",\"n\":13}", ["Split 3", "Work 13"], {
    maybe: ["Quick 0", "Quick 1", "Quick 2", "Work 0", "Work 2"]
  }),
  scenario(settled, 3, "value \"AllSettled Done Failed Done\"", ["Split 3", "Work 0", "Work 13", "Work 2"]),
  scenario(late, 3, "value \"DeadlinePassed Pending Done Done\"", [
    "Split 3",
    "Slow 0",
    "Slow 1",
    "Slow 2",
    "Report 3"
  ]),
  scenario(quorum, 3, "value \"QuorumMet Pending Done Done\"", ["Split 3", "Slow 1", "Slow 2", "Report 3"], {
    maybe: ["Slow 0"]
  }),
  scenario(few, 5, "value 10", ["Split 5", "Work 0", "Work 1", "Work 2", "Work 3", "Work 4", "Sum 5"]),
  scenario(fewFail, 6, "error {\"_tag\":\"Boom\",\"n\":13}", ["Split 6", "Work 13", "Undo 6"], {
    maybe: ["Work 0", "Work 1", "Work 2", "Work 4", "Work 5"],
    undoes: [["Work 0", "Undo 6"]]
  }),
  scenario(few, 5, "error \"Cancelled\"", [], {
    name: "Few that is cancelled",
    cancelAt: 1500,
    maybe: ["Split 5", "Work 0", "Work 1", "Work 2", "Work 3", "Work 4"]
  }),
  scenario(saga, 1, "error {\"_tag\":\"Boom\",\"n\":13}", ["Work 1", "Work 2", "Work 13", "Undo 2", "Undo 1"], {
    undone: ["Undo 2", "Undo 1"],
    undoes: [["Work 2", "Undo 1"], ["Work 13", "Undo 2"]]
  }),
  scenario(badSaga, 1, "error {\"_tag\":\"Boom\",\"n\":13}", [
    "Work 1",
    "Work 2",
    "Work 3",
    "Work 13",
    "Undo 3",
    "BadUndo 2",
    "Undo 1"
  ], {
    undone: ["Undo 3", "BadUndo 2", "Undo 1"],
    undoes: [["Work 2", "Undo 1"], ["Work 3", "BadUndo 2"], ["Work 13", "Undo 3"]]
  }),
  scenario(slept, 1, "value {\"n\":2}", ["Work 1", "Quick 2"]),
  scenario(limited, 1, "value {\"n\":5}", ["Work 1", "Quick 5"]),
  scenario(again, 1, "value {\"n\":4}", ["Decide 1", "Decide 3", "Decide 4", "Quick 4"]),
  scenario(nested, 2, "error {\"_tag\":\"Boom\",\"n\":13}", [
    "Split 2",
    "Work 0",
    "Quick 0",
    "Work 1",
    "Quick 1",
    "Work 9",
    "Quick 9",
    "Work 13",
    "Undo 9",
    "Undo 1",
    "Undo 0"
  ], {
    undone: ["Undo 9", "Undo 1", "Undo 0"],
    undoes: [["Quick 0", "Undo 0"], ["Quick 1", "Undo 1"], ["Quick 9", "Undo 9"]]
  }),
  scenario(saga, 1, "error \"Cancelled\"", [], {
    name: "Saga that is cancelled",
    cancelAt: 1500,
    maybe: ["Work 1", "Work 2", "Undo 2", "Undo 1"]
  }),
  scenario(each, 3, "error \"Cancelled\"", [], {
    name: "Each that is cancelled",
    cancelAt: 300,
    maybe: ["Split 3", "Work 0", "Work 1", "Work 2"]
  }),
  scenario(nested, 2, "error \"Cancelled\"", [], {
    name: "Nested that is cancelled",
    cancelAt: 1200,
    maybe: ["Split 2", "Work 0", "Work 1", "Quick 0", "Quick 1", "Work 9", "Undo 0", "Undo 1", "Undo 9"]
  }),
  scenario(slept, 1, "error \"Cancelled\"", ["Work 1"], { name: "Slept that is cancelled", cancelAt: 60_000 })
]

/** One with more members than one write adds. */
export const large: Scenario = scenario(many, 130, `value ${(130 * 129) / 2}`, [
  "Split 130",
  ...Array.from({ length: 130 }, (_, n) => `Quick ${n}`),
  "Sum 130"
])

/** What it takes to run a scenario. */
export const subject = (flows: ReadonlyArray<Scenario>, books: Books) => ({
  group: Tasks,
  flows: Array.from(new Set(flows.map(({ flow }) => flow))),
  handlers: handlers(books) as unknown as Layer.Layer<never>, // a worker gives them what they need
  client: Tasks.client as unknown as Layer.Layer<never, never, Docket.Docket> // permissions are found by key
})

/** Starts a scenario and waits for its end. */
export const produce = ({ cancelAt, flow, n, name }: Scenario) =>
  Effect.gen(function*() {
    const execution = yield* Docket.start(flow, { n }, { key: name })
    if (cancelAt !== undefined) yield* Effect.forkChild(Effect.andThen(Effect.sleep(cancelAt), Docket.cancel(name)))
    const exit = yield* Effect.exit(execution.await)
    if (Exit.isSuccess(exit)) return `value ${JSON.stringify(plain(exit.value))}`
    return `error ${JSON.stringify(plain(Option.getOrUndefined(Exit.findErrorOption(exit))))}`
  })
