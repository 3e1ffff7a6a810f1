/**
 * Random sequences of commands for the model: few keys, few times, so that commands meet.
 */
import { Arbitrary, Schema } from "effect"
import type { Command, GateName, State, TaskName } from "../ModelState.ts"

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

const turn = (fewest: number, most: number) =>
  Schema.TaggedStruct("Turn", {
    worker: Schema.Literals([0, 1]),
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

// what is listed twice comes up twice as often
const Raw = Schema.Union([
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
  Advance,
  Holder,
  Holder,
  Operator
])

/** A command that names claims by how long ago they were made. */
export type Raw = typeof Raw.Type

/** Sequences of commands. */
export const sequences: Arbitrary.Arbitrary<ReadonlyArray<Raw>> = Arbitrary.array(Arbitrary.schema(Raw), {
  minLength: 1,
  maxLength: 60
})

/** The command for this state. */
export const resolve = ({ claims }: State, raw: Raw): Command => {
  // before the first claim there is none to name
  const claim = (back: number) => claims.length - 1 - back
  switch (raw._tag) {
    case "Turn":
      return {
        ...raw,
        settle: raw.settle.map(({ back, ...settle }) => ({ ...settle, claim: claim(back) })).filter(({ claim }) =>
          claim >= 0
        )
      }
    case "Renew":
    case "Progress":
      return { _tag: raw._tag, claim: claim(raw.back) }
    case "Add": {
      // stores differ in when they hold a run, and behind a gate the order is that of arrival
      const { addition } = raw
      return { ...raw, addition: { ...addition, priority: addition.gates === "none" ? addition.priority : 0 } }
    }
    default:
      return raw
  }
}
