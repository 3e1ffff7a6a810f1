/**
 * The table of transitions, held against the design and against what the model does in random sequences.
 */
import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Effect } from "effect"
import { isAllowed, type Stored, type Transition, transitions } from "../src/internal/transitions.ts"
import { resolve, sequences } from "./contract/commands.ts"
import { initial } from "./ModelState.ts"
import { step } from "./StoreModel.ts"

const states: ReadonlyArray<Stored> = [
  "None",
  "Scheduled",
  "Ready",
  "Held",
  "Running",
  "Completed",
  "Failed",
  "Cancelled",
  "Skipped"
]
const names = Object.keys(transitions) as ReadonlyArray<Transition> // the keys of a literal

/** Section 5 of the design. What is paused, or has no worker, is ready, and shown as held; `Held` are those behind a gate. */
const design: Readonly<Record<string, ReadonlyArray<Transition>>> = {
  "None -> Ready": ["add"],
  "None -> Scheduled": ["add"],
  "Scheduled -> Ready": ["due", "replace", "join", "interpret"],
  "Scheduled -> Scheduled": ["replace", "join"],
  "Scheduled -> Cancelled": ["cancel"],
  "Scheduled -> None": ["clear"],
  "Ready -> Scheduled": ["replace"],
  "Ready -> Ready": ["replace", "joinDue", "interpret"],
  "Ready -> Cancelled": ["cancel"],
  "Ready -> None": ["clear"],
  "Ready -> Held": ["hold"],
  "Held -> Ready": ["replace", "joinDue", "admit", "gather", "interpret"],
  "Held -> Scheduled": ["replace"],
  "Held -> Cancelled": ["cancel"],
  "Held -> None": ["clear"],
  "Ready -> Running": ["claim"],
  "Ready -> Skipped": ["skip"],
  "Running -> Completed": ["complete"],
  "Running -> Failed": ["fail"],
  "Running -> Skipped": ["drop"],
  "Running -> Cancelled": ["abort", "takeOver"],
  "Running -> Scheduled": ["replace", "retry", "snooze", "continue"],
  "Running -> Ready": ["replace", "retry", "snooze", "release", "takeOver", "continue", "interpret"],
  "Running -> Held": ["continue"],
  "Completed -> Scheduled": ["add", "perpetuate"],
  "Completed -> Ready": ["add", "perpetuate"],
  "Completed -> None": ["forget"],
  "Failed -> Scheduled": ["add", "perpetuate"],
  "Failed -> Ready": ["add", "perpetuate"],
  "Failed -> None": ["forget"],
  "Cancelled -> Scheduled": ["add"],
  "Cancelled -> Ready": ["add"],
  "Cancelled -> None": ["forget"],
  "Skipped -> Scheduled": ["add"],
  "Skipped -> Ready": ["add"],
  "Skipped -> None": ["forget"]
}

const all = states.flatMap((from) => states.flatMap((to) => names.map((name) => ({ from, to, name }))))

describe("transitions", () => {
  it("the table allows what the design lists, and refuses every other step", () => {
    for (const { from, name, to } of all) {
      const listed = design[`${from} -> ${to}`]?.includes(name) ?? false
      assert.strictEqual(isAllowed(name, from, to), listed, `${name}: ${from} -> ${to}`)
    }
  })

  // the model has no flows
  const isModelled = ({ name }: typeof all[number]) => name !== "continue" && name !== "gather" && name !== "interpret"

  it.effect("every step of the table is reached by commands, and the model makes no other", () =>
    Effect.gen(function*() {
      const made = new Set<string>()
      for (const sequence of yield* Arbitrary.sampleEffect(sequences, { count: 3000, size: 60, seed: "docket" })) {
        let state = initial(0)
        for (const raw of sequence) state = step(state, resolve(state, raw))[0]
        for (const one of state.steps) made.add(one)
      }
      const allowed = all.filter((step) => isModelled(step) && isAllowed(step.name, step.from, step.to))
      assert.deepStrictEqual(
        Array.from(made).toSorted(),
        allowed.map(({ from, name, to }) => `${name}: ${from} -> ${to}`).toSorted()
      )
    }))
})
