import { Docket, DocketError, Flow, Gather, Task } from "@effect-docket/dsl"
import { assert, describe, it } from "@effect/vitest"
import { Context, Duration, Schema } from "effect"
import * as ast from "../src/internal/flow.ts"
import * as options from "../src/internal/options.ts"

class Busy extends Schema.TaggedError<Busy>()("Busy", { id: Schema.String }) {}
class Yes extends Schema.TaggedClass<Yes>()("Yes", { id: Schema.String }) {}
class No extends Schema.TaggedClass<No>()("No", { id: Schema.String, why: Schema.String }) {}

const Id = Schema.Struct({ id: Schema.String })
class Fetch extends Task.make("Fetch", { payload: Id, success: Id, error: Busy }) {}
class Store extends Task.make("Store", { payload: Id, success: Id }) {}
class Drop extends Task.make("Drop", { payload: Id }) {}
class Decide extends Task.make("Decide", { payload: Id, success: Schema.Union([Yes, No]) }) {}
class Reset extends Task.make("Reset") {}
class Split extends Task.make("Split", { payload: Id, success: Schema.Array(Id) }) {}

const node = (step: Flow.Any): ast.Node => ast.node("test", "step", step)
const fetch = node(Fetch)
const store = node(Store)
const same = (value: { readonly id: string }) => value

/** Each combinator, data-first and data-last, and the node both of them make. */
const forms: ReadonlyArray<readonly [name: string, first: Flow.Any, last: Flow.Any, node: ast.Node]> = [
  ["andThen", Flow.andThen(Fetch, Store), Fetch.pipe(Flow.andThen(Store)), {
    _tag: "AndThen",
    self: fetch,
    next: store
  }],
  ["andThen with map", Flow.andThen(Fetch, Store, same), Fetch.pipe(Flow.andThen(Store, same)), {
    _tag: "AndThen",
    self: fetch,
    next: { _tag: "MapInput", f: same, flow: store }
  }],
  ["map", Flow.map(Fetch, same), Fetch.pipe(Flow.map(same)), { _tag: "Map", self: fetch, f: same }],
  ["mapInput", Flow.mapInput(Fetch, same), Fetch.pipe(Flow.mapInput(same)), { _tag: "MapInput", f: same, flow: fetch }],
  ["sleep", Flow.sleep(Fetch, "1 hour"), Fetch.pipe(Flow.sleep({ hours: 1 })), {
    _tag: "Sleep",
    self: fetch,
    duration: 3_600_000
  }],
  ["sleep, computed", Flow.sleep(Fetch, second), Fetch.pipe(Flow.sleep(second)), {
    _tag: "Sleep",
    self: fetch,
    duration: second
  }],
  ["match", Flow.match(Decide, { Yes: Fetch, No: Drop }), Decide.pipe(Flow.match({ Yes: Fetch, No: Drop })), {
    _tag: "Match",
    self: node(Decide),
    cases: new Map([["Yes", fetch], ["No", node(Drop)]])
  }],
  ["when", Flow.when(Fetch, isEven, Store), Fetch.pipe(Flow.when(isEven, Store)), {
    _tag: "When",
    self: fetch,
    predicate: isEven,
    next: store
  }],
  ["all", Flow.all(Fetch, { a: Store, b: Drop }), Fetch.pipe(Flow.all({ a: Store, b: Drop })), {
    _tag: "All",
    self: fetch,
    branches: new Map([["a", store], ["b", node(Drop)]])
  }],
  ["outcomes", Flow.outcomes(Fetch, { a: Store, b: Drop }), Fetch.pipe(Flow.outcomes({ a: Store, b: Drop })), {
    _tag: "Outcomes",
    self: fetch,
    branches: new Map([["a", store], ["b", node(Drop)]])
  }],
  ["forEach", Flow.forEach(Split, Store), Split.pipe(Flow.forEach(Store)), {
    _tag: "ForEach",
    self: node(Split),
    next: store,
    policy: { _tag: "AllSucceed" },
    items: undefined,
    over: undefined,
    jitter: undefined,
    concurrency: undefined,
    deadline: undefined,
    onRelease: "letRun"
  }],
  [
    "forEach with options",
    Flow.forEach(Fetch, Store, {
      policy: Gather.quorum(3),
      items: thrice,
      over: "1 minute",
      jitter: "1 second",
      concurrency: 2,
      deadline: "1 hour",
      onRelease: "cancelRest"
    }),
    Fetch.pipe(
      Flow.forEach(Store, {
        policy: Gather.quorum(3),
        items: thrice,
        over: Duration.minutes(1),
        jitter: 1000,
        concurrency: 2,
        deadline: "60 minutes",
        onRelease: "cancelRest"
      })
    ),
    {
      _tag: "ForEach",
      self: fetch,
      next: store,
      policy: { _tag: "Quorum", atLeast: 3 },
      items: thrice,
      over: 60_000,
      jitter: 1000,
      concurrency: 2,
      deadline: 3_600_000,
      onRelease: "cancelRest"
    }
  ],
  ["catchTag", Flow.catchTag(Fetch, "Busy", Store), Fetch.pipe(Flow.catchTag("Busy", Store)), {
    _tag: "CatchTags",
    self: fetch,
    handlers: new Map([["Busy", store]])
  }],
  [
    "catchTag with map",
    Flow.catchTag(Fetch, "Busy", Store, same),
    Fetch.pipe(Flow.catchTag<Busy, "Busy", typeof Store>("Busy", Store, same)),
    {
      _tag: "CatchTags",
      self: fetch,
      handlers: new Map([["Busy", { _tag: "MapInput", f: same, flow: store }]])
    }
  ],
  [
    "catchTags",
    Flow.catchTags(Fetch, { Busy: Store, TaskFailure: Flow.mapInput(Drop, nothing) }),
    Fetch.pipe(Flow.catchTags({ Busy: Store, TaskFailure: Flow.mapInput(Drop, nothing) })),
    {
      _tag: "CatchTags",
      self: fetch,
      handlers: new Map<string, ast.Node>([["Busy", store], ["TaskFailure", {
        _tag: "MapInput",
        f: nothing,
        flow: node(Drop)
      }]])
    }
  ],
  ["compensate", Flow.compensate(Fetch, Drop), Fetch.pipe(Flow.compensate(Drop)), {
    _tag: "Compensate",
    self: fetch,
    undo: node(Drop)
  }],
  ["compensate with map", Flow.compensate(Fetch, Drop, same), Fetch.pipe(Flow.compensate(Drop, same)), {
    _tag: "Compensate",
    self: fetch,
    undo: { _tag: "MapInput", f: same, flow: node(Drop) }
  }],
  ["deadline", Flow.deadline(Fetch, "2 days"), Fetch.pipe(Flow.deadline(Duration.days(2))), {
    _tag: "Deadline",
    self: fetch,
    limit: 172_800_000
  }]
]
// hoisted: `forms` is made first
function isEven(value: { readonly id: string }) {
  return value.id.length % 2 === 0
}
function second() {
  return Duration.seconds(1)
}
function thrice(value: { readonly id: string }) {
  return [value, value, value]
}
function nothing() {
  return { id: "" }
}

/** The reason and the message of what `make` throws. */
const refusal = (make: () => unknown): string => {
  let thrown: unknown
  try {
    make()
  } catch (error) {
    thrown = error
  }
  assert.instanceOf(thrown, DocketError.DocketError)
  assert.strictEqual(thrown.reason._tag, "InvalidOption")
  return thrown.message
}

describe("Flow", () => {
  describe("combinators", () => {
    it.each(forms)("%s: data-first and data-last make the same node", (_, first, last, expected) => {
      assert.deepStrictEqual(node(first), expected)
      assert.deepStrictEqual(node(last), expected)
    })

    it("task, input and again begin a flow", () => {
      const next = (value: { readonly id: string }) => ({ id: `${value.id}!` })
      assert.deepStrictEqual(node(Flow.task(Fetch)), { _tag: "Task", task: Fetch })
      assert.deepStrictEqual(node(Flow.input(Id)), { _tag: "Input", schema: Id })
      assert.deepStrictEqual(node(Flow.again({ after: "5 minutes" })), {
        _tag: "Again",
        after: 300_000,
        input: undefined
      })
      assert.deepStrictEqual(node(Flow.again({ after: second, input: next })), {
        _tag: "Again",
        after: second,
        input: next
      })
    })

    it("a step that is kept can be used again, and is not changed by it", () => {
      const start = Flow.andThen(Fetch, Store)
      const before = snapshot(node(start))
      const one = Flow.map(start, same)
      const two = Flow.sleep(start, "1 second")
      assert.deepStrictEqual(snapshot(node(start)), before)
      assert.notDeepEqual(node(one), node(two))
    })

    it("branches are copied", () => {
      const branches = { a: Store }
      const flow = Flow.all(Fetch, branches)
      Object.assign(branches, { b: Drop })
      assert.deepStrictEqual(node(flow), { _tag: "All", self: fetch, branches: new Map([["a", store]]) })
    })

    it("isFlow knows flows, named ones and classes of them; tasks are none", () => {
      class Named extends Flow.make("Named", Fetch) {}
      for (const flow of [Flow.task(Fetch), Flow.make("F", Fetch), Named]) assert.isTrue(Flow.isFlow(flow))
      for (const other of [Fetch, undefined, {}, same]) assert.isFalse(Flow.isFlow(other))
    })
  })

  describe("make", () => {
    const key = ({ id }: { readonly id: string }) => `k/${id}`
    class Onboard extends Flow.make("Onboard", Fetch.pipe(Flow.andThen(Store)), { version: 2, key }) {}
    class Plain extends Flow.make("Plain", Onboard.pipe(Flow.andThen(Drop))) {}

    it("a class that extends a flow has its name, options and graph", () => {
      assert.strictEqual(Onboard._tag, "Onboard")
      assert.strictEqual(Onboard[Flow.TypeId], Flow.TypeId)
      assert.strictEqual(Context.get(Onboard.annotations, options.Version), 2)
      assert.strictEqual(Context.get(Onboard.annotations, options.Key), key)
      assert.deepStrictEqual(node(Onboard), {
        _tag: "Named",
        name: "Onboard",
        annotations: Onboard.annotations,
        flow: { _tag: "AndThen", self: fetch, next: store }
      })
    })

    it("version 1 and no key are the defaults", () => {
      assert.strictEqual(Context.get(Plain.annotations, options.Version), 1)
      assert.isUndefined(Context.get(Plain.annotations, options.Key))
    })

    it("a named flow is a step: by pipe, as next step, as branch", () => {
      assert.deepStrictEqual(ast.children(node(Plain)), [[undefined, {
        _tag: "AndThen",
        self: node(Onboard),
        next: node(Drop)
      }]])
      const flow = Fetch.pipe(Flow.andThen(Onboard), Flow.all({ onboard: Onboard }))
      assert.deepStrictEqual(
        [...ast.walk(node(flow))].filter(([, node]) => node._tag === "Named").map(([path]) => path),
        [
          "1/0",
          "2/onboard/0"
        ]
      )
    })

    it("a flow can be started by its class only if it has a name", () => {
      assert.isFunction(Onboard)
      assert.isDefined(Docket.start(Onboard, { id: "a" }))
    })
  })

  describe("walk", () => {
    const again = Flow.again({ after: "1 minute" })
    const sample = Decide.pipe(
      Flow.match({ Yes: Fetch.pipe(Flow.compensate(Drop)), No: again }),
      Flow.andThen(Split, same),
      Flow.forEach(Store.pipe(Flow.catchTag("TaskFailure", Fetch, nothing))),
      Flow.all({ "a/b": Reset, "": Flow.mapInput(Drop, nothing) }),
      Flow.deadline("1 day")
    )
    const paths = (flow: Flow.Any) => [...ast.walk(node(flow))].map(([path, node]) => `${path} ${node._tag}`)

    it("gives each node its path, in the order of a run", () => {
      assert.deepStrictEqual(paths(sample), [
        "0 Task",
        "1 Match",
        "1/Yes/0 Task",
        "1/Yes/1 Compensate",
        "1/Yes/1/0 Task",
        "1/No/0 Again",
        "2 AndThen",
        "2/0 MapInput",
        "2/0/0 Task",
        "3 ForEach",
        "3/0 Task",
        "3/1 CatchTags",
        "3/1/TaskFailure/0 MapInput",
        "3/1/TaskFailure/0/0 Task",
        "4 All",
        "4/a%2Fb/0 Task",
        "4//0 MapInput",
        "4//0/0 Task",
        "5 Deadline"
      ])
    })

    it("paths do not change with the name of the flow, nor when steps are added after it", () => {
      assert.deepStrictEqual(paths(Flow.make("Sample", sample)), paths(sample))
      assert.deepStrictEqual(paths(Flow.map(sample, nothing)).slice(0, -1), paths(sample))
    })

    it("copes with 5,000 steps, in a row and inside each other", () => {
      let row = Flow.andThen(Store, Store)
      let nest = Flow.andThen(Store, Store)
      for (let i = 0; i < 5000; i++) {
        row = Flow.andThen(row, Store)
        nest = Flow.andThen(Store, nest)
      }
      for (const flow of [row, nest]) {
        const seen = new Set<string>()
        for (const [path] of ast.walk(node(Flow.make("Long", flow)))) seen.add(path)
        assert.strictEqual(seen.size, 3 + 5000 * 2)
      }
    })
  })

  describe("refuses", () => {
    const notSteps = Fetch.pipe(Flow.map(() => [{ id: "a" }]))
    const refusals: ReadonlyArray<readonly [name: string, make: () => unknown, message: string]> = [
      ["an empty name", () => Flow.make("", Fetch), "Flow.make: option `name`: must not be empty"],
      ...[0, -1, 1.5, Number.NaN, Infinity].map((version) =>
        [
          `version ${version}`,
          () => Flow.make("F", Fetch, { version }),
          `flow "F": option \`version\`: has to be an integer of at least 1, it is ${version}`
        ] as const
      ),
      [
        "a negative sleep",
        () => Flow.sleep(Fetch, Duration.seconds(-1)),
        "Flow.sleep: option `duration`: has to be at least 0 ms, it is -1s"
      ],
      ["an endless sleep", () => Fetch.pipe(Flow.sleep(Infinity)), "Flow.sleep: option `duration`: has to be finite"],
      [
        "a negative deadline",
        () => Flow.deadline(Fetch, -1),
        "Flow.deadline: option `duration`: has to be at least 1 ms, it is -1ms"
      ],
      [
        "an empty deadline",
        () => Flow.deadline(Fetch, 0),
        "Flow.deadline: option `duration`: has to be at least 1 ms, it is 0"
      ],
      [
        "a negative delay of again",
        () => Flow.again({ after: -1 }),
        "Flow.again: option `after`: has to be at least 0 ms, it is -1ms"
      ],
      [
        "no duration",
        () => Flow.sleep(Fetch, "soon" as never),
        "Flow.sleep: option `duration`: \"soon\" is not a duration"
      ],
      [
        "a negative scatter",
        () => Flow.forEach(notSteps, Drop, { over: -1 }),
        "Flow.forEach: option `over`: has to be at least 0 ms, it is -1ms"
      ],
      [
        "a negative jitter",
        () => Flow.forEach(notSteps, Drop, { jitter: -1 }),
        "Flow.forEach: option `jitter`: has to be at least 0 ms, it is -1ms"
      ],
      [
        "no concurrency",
        () => Flow.forEach(notSteps, Drop, { concurrency: 0 }),
        "Flow.forEach: option `concurrency`: has to be an integer of at least 1, it is 0"
      ],
      [
        "a barrier without a deadline",
        () => Flow.forEach(notSteps, Drop, { policy: Gather.allSettled } as never),
        "Flow.forEach: option `deadline`: is missing; a gather that does not fail with its children needs an end"
      ],
      [
        "an endless barrier",
        () => Flow.forEach(notSteps, Drop, { policy: Gather.allSettled, deadline: Infinity }),
        "Flow.forEach: option `deadline`: has to be finite"
      ],
      [
        "an empty barrier",
        () => Flow.forEach(notSteps, Drop, { policy: Gather.allSettled, deadline: 0 }),
        "Flow.forEach: option `deadline`: has to be at least 1 ms, it is 0"
      ],
      [
        "a quorum of nobody",
        () => Flow.forEach(notSteps, Drop, { policy: { _tag: "Quorum", atLeast: 0 }, deadline: "1 hour" }),
        "Flow.forEach: option `policy.atLeast`: has to be an integer of at least 1, it is 0"
      ],
      ["a match without cases", () => Flow.match(Fetch, {} as never), "Flow.match: option `cases`: must not be empty"],
      [
        "a step that is not there",
        () => Flow.andThen(Fetch, undefined as never),
        "Flow.andThen: option `next`: has to be a task or a flow, it is of type undefined"
      ],
      [
        "a branch that is not there",
        () => Flow.all(Fetch, { a: Drop, b: undefined as never }),
        "Flow.all: option `branches.b`: has to be a task or a flow, it is of type undefined"
      ],
      [
        "a branch whose name is not Unicode",
        () => Flow.all(Fetch, { "\ud800": Drop }),
        "Flow.all: option `branches`: \"\\ud800\" is not well-formed Unicode"
      ],
      [
        "two tasks with one tag",
        () => Flow.make("F", Flow.andThen(Fetch, Task.make("Fetch", { payload: { id: Schema.String } }))),
        "flow \"F\": option `flow`: two different tasks have the tag \"Fetch\"; tags are unique in a flow"
      ],
      [
        "two different steps with one name",
        () => Flow.make("F", Flow.andThen(Flow.make("G", Fetch), Flow.make("G", Store))),
        "flow \"F\": option `flow`: two different flows are \"G\", version 1"
      ],
      [
        "a step with the name of the flow",
        () => Flow.make("F", Flow.andThen(Flow.make("F", Fetch), Store)),
        "flow \"F\": option `flow`: two different flows are \"F\", version 1"
      ]
    ]
    it.each(refusals)("%s", (_, make, message) => {
      assert.strictEqual(refusal(make), message)
    })

    const again = Flow.again({ after: "1 minute" })
    const hint = "and a flow runs again as a whole; give the part that is to run again a name with `Flow.make`"
    const lost: ReadonlyArray<readonly [place: string, flow: Flow.Any, path: string, inside: string]> = [
      ["all", Flow.all(Fetch, { a: Store, b: again }), "1/b/0", "All at 1"],
      ["outcomes", Flow.outcomes(Fetch, { a: again }), "1/a/0", "Outcomes at 1"],
      ["forEach", Flow.forEach(Split, again), "1/0", "ForEach at 1"],
      ["compensate", Flow.compensate(Fetch, again), "1/0", "Compensate at 1"],
      [
        "all, deep inside",
        Fetch.pipe(Flow.andThen(Flow.all(Store, { x: Fetch.pipe(Flow.when(isEven, Flow.andThen(Store, again))) }))),
        "1/1/x/1/1/0",
        "All at 1/1"
      ]
    ]
    it.each(lost)("again in %s", (_, flow, path, inside) => {
      assert.strictEqual(
        refusal(() => Flow.make("F", flow)),
        `flow "F": option \`flow\`: \`Flow.again\` at ${path} is inside of the ${inside}, ${hint}`
      )
    })

    it("again that follows a fan-out, or restarts a named flow inside of one, is fine", () => {
      class Poll extends Flow.make("Poll", Decide.pipe(Flow.match({ Yes: Store, No: again }))) {}
      assert.isDefined(Flow.make("After", Fetch.pipe(Flow.all({ a: Store }), Flow.andThen(again))))
      assert.isDefined(Flow.make("Polls", Flow.forEach(Split, Poll)))
      assert.isDefined(Flow.make("Handler", Flow.catchTag(Fetch, "Busy", again)))
      assert.isDefined(Flow.make("Options", Fetch, { version: 3, key: undefined }))
    })
  })

  describe("toMermaid", () => {
    it("draws a saga: deadline around, compensations dotted", () => {
      class Checkout extends Flow.make(
        "Checkout",
        Fetch.pipe(
          Flow.compensate(Drop),
          Flow.andThen(Store),
          Flow.compensate(Flow.mapInput(Drop, same)),
          Flow.andThen(Split),
          Flow.deadline("2 days")
        )
      ) {}
      assert.strictEqual(
        Flow.toMermaid(Checkout),
        `flowchart TD
  start(["Checkout"])
  subgraph n5["deadline 2d"]
    n0["Fetch"]
    n1__0["Drop"]
    n2__0["Store"]
    n3__0__0["Drop"]
    n4__0["Split"]
  end
  finish(["end"])
  start --> n0
  n0 -.->|"undo"| n1__0
  n0 --> n2__0
  n2__0 -.->|"undo"| n3__0__0
  n2__0 --> n4__0
  n4__0 --> finish`
      )
    })

    it("draws a decision that runs the flow again", () => {
      class Watch extends Flow.make(
        "Watch",
        Decide.pipe(
          Flow.match({ Yes: Store, No: Flow.again({ after: "5 minutes", input: ({ id }: No) => ({ id }) }) })
        ),
        { version: 3 }
      ) {}
      assert.strictEqual(
        Flow.toMermaid(Watch),
        `flowchart TD
  start(["Watch, version 3"])
  n0["Decide"]
  n1{"match"}
  n1__Yes__0["Store"]
  n1__No__0{{"again<br/>after 5m"}}
  finish(["end"])
  start --> n0
  n0 --> n1
  n1 -->|"Yes"| n1__Yes__0
  n1 -->|"No"| n1__No__0
  n1__No__0 --> start
  n1__Yes__0 --> finish`
      )
    })

    it("draws a gather with its policy, scatter and deadline", () => {
      const flow = Split.pipe(
        Flow.forEach(Store, {
          policy: Gather.quorum(8),
          deadline: "2 hours",
          over: "1 hour",
          jitter: "30 seconds",
          concurrency: 4,
          onRelease: "cancelRest"
        }),
        Flow.map((gathered) => Gather.successes(gathered)),
        Flow.forEach(Drop),
        Flow.map(() => []),
        Flow.forEach(Drop, { policy: Gather.allSettled, deadline: "1 day" })
      )
      assert.strictEqual(
        Flow.toMermaid(flow),
        String.raw`flowchart TD
  start(["start"])
  n0["Split"]
  n1[/"for each item<br/>over 1h<br/>jitter 30s<br/>at most 4 at once"\]
  n1__0["Store"]
  n1__join[\"quorum of 8<br/>deadline 2h<br/>then cancel the rest"/]
  n3[/"for each item"\]
  n3__0["Drop"]
  n3__join[\"all succeed"/]
  n5[/"for each item"\]
  n5__0["Drop"]
  n5__join[\"all settled<br/>deadline 1d"/]
  finish(["end"])
  start --> n0
  n0 --> n1
  n1 --> n1__0
  n1__0 --> n1__join
  n1__join --> n3
  n3 --> n3__0
  n3__0 --> n3__join
  n3__join --> n5
  n5 --> n5__0
  n5__0 --> n5__join
  n5__join --> finish`
      )
    })

    it("draws branches from the input, with a condition", () => {
      const flow = Flow.input(Id).pipe(
        Flow.all({ a: Fetch, b: Flow.when(Store, isEven, Drop) }),
        Flow.map(nothing),
        Flow.outcomes({ c: Store })
      )
      assert.strictEqual(
        Flow.toMermaid(flow),
        String.raw`flowchart TD
  start(["start"])
  n1[/"all"\]
  n1__a__0["Fetch"]
  n1__b__0["Store"]
  n1__b__1{"when"}
  n1__b__1__0["Drop"]
  n1__join[\"all succeed"/]
  n3[/"outcomes"\]
  n3__c__0["Store"]
  n3__join[\"all settled"/]
  finish(["end"])
  start --> n1
  n1 -->|"a"| n1__a__0
  n1 -->|"b"| n1__b__0
  n1__b__0 --> n1__b__1
  n1__b__1 -->|"yes"| n1__b__1__0
  n1__a__0 --> n1__join
  n1__b__1__0 --> n1__join
  n1__b__1 -->|"no"| n1__join
  n1__join --> n3
  n3 -->|"c"| n3__c__0
  n3__c__0 --> n3__join
  n3__join --> finish`
      )
    })

    it("draws what catches around what it catches, waits, and named flows as frames", () => {
      class Inner extends Flow.make("Inner", Decide.pipe(Flow.match({ Yes: Store, No: Flow.again({ after: 0 }) }))) {}
      const flow = Fetch.pipe(
        Flow.catchTag("Busy", Store),
        Flow.sleep("1 hour"),
        Flow.sleep(second),
        Flow.catchTags({ TaskFailure: Flow.mapInput(Drop, nothing) }),
        Flow.andThen(Inner, nothing)
      )
      assert.strictEqual(
        Flow.toMermaid(flow),
        `flowchart TD
  start(["start"])
  subgraph n4["try"]
    n0["Fetch"]
    n1__Busy__0["Store"]
    n2{{"sleep 1h"}}
    n3{{"sleep a computed time"}}
  end
  n4__TaskFailure__0__0["Drop"]
  subgraph n5__0__0["Inner"]
    n5__0__0__start(["start"])
    n5__0__0__0["Decide"]
    n5__0__0__1{"match"}
    n5__0__0__1__Yes__0["Store"]
    n5__0__0__1__No__0{{"again<br/>after 0"}}
  end
  finish(["end"])
  start --> n0
  n0 -.->|"Busy"| n1__Busy__0
  n0 --> n2
  n1__Busy__0 --> n2
  n2 --> n3
  n4 -.->|"TaskFailure"| n4__TaskFailure__0__0
  n3 --> n5__0__0__start
  n4__TaskFailure__0__0 --> n5__0__0__start
  n5__0__0__start --> n5__0__0__0
  n5__0__0__0 --> n5__0__0__1
  n5__0__0__1 -->|"Yes"| n5__0__0__1__Yes__0
  n5__0__0__1 -->|"No"| n5__0__0__1__No__0
  n5__0__0__1__No__0 --> n5__0__0__start
  n5__0__0__1__Yes__0 --> finish`
      )
    })

    it("a task is a flow of one box; a flow that never ends has no end", () => {
      assert.strictEqual(
        Flow.toMermaid(Fetch),
        "flowchart TD\n  start([\"start\"])\n  n0[\"Fetch\"]\n  finish([\"end\"])\n  start --> n0\n  n0 --> finish"
      )
      class Beat extends Flow.make("Beat", Fetch.pipe(Flow.andThen(Flow.again({ after: "1 minute" })))) {}
      assert.strictEqual(
        Flow.toMermaid(Beat),
        "flowchart TD\n  start([\"Beat\"])\n  n0[\"Fetch\"]\n  n1__0{{\"again<br/>after 1m\"}}\n  start --> n0\n  n0 --> n1__0\n  n1__0 --> start"
      )
    })

    // the parser of mermaid 11 accepted these texts and names, and found these boxes and edges
    it("escapes text: quotes, markup, entities, comments, line breaks", () => {
      const text = (tag: string) => /n0\["(.*)"\]/.exec(Flow.toMermaid(Task.make(tag)))?.[1]
      assert.strictEqual(text("Order.Ship-v2 (EU), now/later_x"), "Order.Ship-v2 (EU), now/later_x")
      assert.strictEqual(text("日本語 🚀"), "日本語 🚀")
      assert.strictEqual(text("say \"hi\""), "say #34;hi#34;")
      assert.strictEqual(text("<b>&amp;"), "#60;b#62;#38;amp#59;")
      assert.strictEqual(
        text("`md` %%{init}%% #quot; x:y"),
        "#96;md#96; #37;#37;#123;init#125;#37;#37; #35;quot#59; x#58;y"
      )
      assert.strictEqual(text("a]b|c\\d"), "a#93;b#124;c#92;d")
      assert.strictEqual(text("two\r\nlines\u0000\u2028"), "two lines ")
      assert.strictEqual(text("\n"), " ")
    })

    const hostile = ["", " ", "end", "\"", "]", "a/b", "a__b", "a_b", "a_5f_b", "-->", "%%", "x\ny", "__proto__", "o"]

    it("any name gives valid lines and ids of their own", () => {
      const label = "\"(?:[^\"#&<>`%;:\\n]|#\\d+;|<br/>)+\""
      const id = "(?:start|finish|n\\w+)"
      const line = new RegExp(
        `^(?:flowchart TD| +end| +subgraph ${id}\\[${label}\\]`
          + `| +${id}(?:\\(\\[${label}\\]\\)|\\[${label}\\]|\\{${label}\\}|\\{\\{${label}\\}\\}|\\[/${label}\\\\\\]|\\[\\\\${label}/\\])`
          + `| +${id} (?:-->|-\\.->)(?:\\|${label}\\|)? ${id})$`
      )
      const branches = Object.fromEntries(hostile.map((name) => [name, Task.make(`t${name}`)]))
      const flow = Flow.make("\"]; end", Flow.all(Flow.andThen(Store, Flow.make("x\"y", Drop)), branches))
      const lines = Flow.toMermaid(flow).split("\n")
      for (const text of lines) assert.match(text, line)
      const boxes = lines.flatMap((text) => /^ +(\w+)(?:\[|\(|\{)/.exec(text)?.[1] ?? [])
      // start, finish, both ends of the fan-out, `Store`, the inner flow's start and task, and the branches
      assert.strictEqual(boxes.length, 7 + hostile.length)
      assert.strictEqual(new Set(boxes).size, boxes.length)
    })
  })
})

/** What the nodes of a flow hold now. */
const snapshot = (node: ast.Node): unknown => [...ast.walk(node)].map(([path, node]) => [path, { ...node }])
