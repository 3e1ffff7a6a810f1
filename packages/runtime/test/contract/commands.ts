/**
 * Random sequences of commands for the model: few keys, few times, so that commands meet.
 */
import { Arbitrary, Schema } from "effect"
import type { Command, GateName, Kind, State, TaskName } from "../ModelState.ts"

export const keys = ["k1", "k2", "k3", "k4"] as const

const Key = Schema.Literals(keys)
const Task = Schema.Literals(["a", "b", "c"])
// shorter than the leases, as long as one, longer than both
const Millis = Schema.Literals([0, 20, 50, 100])
const N = Schema.Literals([0, 1])
const Wanted = Schema.UndefinedOr(N)
/** How many claims ago. */
const Back = Schema.Literals([0, 1, 2, 3])

const Gates = Schema.Literals(["none", "none", "none", "slot", "slot", "rate", "both", "cooldown"])

const Change = Schema.Union([
  Schema.TaggedStruct("Completed", { exit: Schema.Literal("exit") }),
  Schema.TaggedStruct("Failed", { exit: Schema.Literal("failure") }),
  Schema.TaggedStruct("Cancelled", {}),
  Schema.TaggedStruct("Retry", {
    after: Millis,
    exit: Schema.Literal("failure"),
    failures: Schema.Literals(["f1", "f2"])
  }),
  Schema.TaggedStruct("Snooze", { after: Millis }),
  Schema.TaggedStruct("Released", {}),
  Schema.TaggedStruct("Skipped", { by: Schema.Literal("rateLimit") })
])

const Settle = Schema.Struct({
  back: Back,
  change: Change,
  successor: Schema.UndefinedOr(Schema.Struct({ after: Millis, n: N }))
})

const Kinds: Schema.Codec<Kind> = Schema.Literals([0, 1])

const turn = (fewest: number, most: number) =>
  Schema.TaggedStruct("Turn", {
    kind: Kinds,
    settle: Schema.Array(Settle).check(Schema.isMinLength(fewest), Schema.isMaxLength(most)),
    capacity: Schema.Literals([0, 1, 2, 3])
  })

const Claiming = turn(0, 0)
const Settling = turn(1, 2)

const add = <A extends number>(after: Schema.Codec<A>, task: Schema.Codec<TaskName>, gates: Schema.Codec<GateName>) =>
  Schema.TaggedStruct("Add", {
    addition: Schema.Struct({
      key: Key,
      task,
      n: N,
      after,
      onExisting: Schema.Literals(["keep", "replace", "fail"]),
      priority: Schema.Literals([0, 1]),
      gates,
      retention: Schema.Struct({ success: Schema.Literals([0, 200]), failure: Schema.Literals([0, 200]) }),
      redrive: Schema.Boolean
    })
  })

const AddNow = add(Schema.Literal(0), Schema.Literals(["a", "b"]), Gates)
const AddAny = add(Millis, Task, Gates)
const AddSettling = add(Millis, Schema.Literals(["a", "b"]), Schema.Literals(["first", "last"]))

// these stop everything else, so they are rare, and what undoes them is not
const Operator = Schema.Union([
  Schema.TaggedStruct("Strike", { task: Task, n: Wanted, until: Schema.UndefinedOr(Millis) }),
  Schema.TaggedStruct("Restore", { task: Task, n: Wanted }),
  Schema.TaggedStruct("Pause", { task: Schema.UndefinedOr(Task) }),
  Schema.TaggedStruct("Resume", { task: Schema.UndefinedOr(Task) }),
  Schema.TaggedStruct("Resume", { task: Schema.Undefined }),
  Schema.TaggedStruct("Clear", {})
])

const Holder = Schema.Union([
  Schema.TaggedStruct("Cancel", { key: Key }),
  Schema.TaggedStruct("Renew", { back: Back }),
  Schema.TaggedStruct("Progress", { back: Back })
])

const Advance = Schema.TaggedStruct("Advance", { millis: Schema.Literals([1, 20, 50, 200]) })

const Crash = Schema.TaggedStruct("Crash", { kind: Kinds, silent: Schema.Boolean })

// what is listed twice comes up twice as often
const Call = Schema.Union([
  AddNow,
  AddNow,
  AddNow,
  AddAny,
  AddAny,
  AddSettling,
  AddSettling,
  Claiming,
  Claiming,
  Claiming,
  Settling,
  Settling,
  Settling,
  Holder,
  Holder,
  Operator
])

/** How many commands come before it arrives. */
const By = Schema.Literals([1, 2, 4])

// a call that arrives after others that were made later, and one that arrives twice
const Late = Schema.TaggedStruct("Late", { call: Call, by: By })
const Twice = Schema.TaggedStruct("Twice", { call: Call, by: Schema.Literals([0, 1, 2, 4]) })

const Raw = Schema.Union([
  ...Array.from({ length: 16 }, () => Call),
  Advance,
  Advance,
  Crash,
  Late,
  Twice
])

/** A command that names claims by how long ago they were made, and workers by their kind. */
export type Raw = typeof Raw.Type

/** Sequences of commands. */
export const sequences: Arbitrary.Arbitrary<ReadonlyArray<Raw>> = Arbitrary.array(Arbitrary.schema(Raw), {
  minLength: 1,
  maxLength: 60
})

/** When a command arrives, in commands from now. */
export const arrivals = (raw: Raw): ReadonlyArray<number> => {
  switch (raw._tag) {
    case "Late":
      return [raw.by]
    case "Twice":
      return [0, raw.by]
    default:
      return [0]
  }
}

/** The command for this state, in which it is made. */
export const resolve = (state: State, raw: Raw): Command => {
  const { claims, runs, workers } = state
  // before the first claim there is none to name
  const claim = (back: number) => claims.length - 1 - back
  switch (raw._tag) {
    case "Late":
    case "Twice":
      return resolve(state, raw.call)
    case "Turn": {
      const { capacity, kind } = raw
      const settle = raw.settle.map(({ back, ...settle }) => ({ ...settle, claim: claim(back) }))
      const worker = workers.lastIndexOf(kind)
      return { _tag: "Turn", worker, capacity, settle: settle.filter(({ claim }) => claim >= 0) }
    }
    case "Renew":
    case "Progress":
      return { _tag: raw._tag, claim: claim(raw.back) }
    case "Add": {
      const { gates, key, priority, redrive } = raw.addition
      return {
        _tag: "Add",
        addition: {
          ...raw.addition,
          // stores differ in when they hold a run, and behind a gate the order is that of arrival
          priority: gates === "none" ? priority : 0,
          redrive: redrive ? runs.get(key)?.generation : undefined
        }
      }
    }
    default:
      return raw
  }
}
