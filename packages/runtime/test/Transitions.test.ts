/**
 * The table of transitions, held against the design and against what the model does in random sequences.
 */
import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Effect } from "effect"
import { isAllowed, type Stored, type Transition, transitions } from "../src/internal/transitions.ts"
import { resolve, sequences } from "./contract/commands.ts"
import { initial, step } from "./StoreModel.ts"

const states: ReadonlyArray<Stored> = [
  "None",
  "Scheduled",
  "Ready",
  "Running",
  "Completed",
  "Failed",
  "Cancelled",
  "Skipped"
]
const names = Object.keys(transitions) as ReadonlyArray<Transition> // the keys of a literal

/** Section 5 of the design, but for `held`: what is held is ready, and shown as held. */
const design: Readonly<Record<string, ReadonlyArray<Transition>>> = {
  "None -> Ready": ["add"],
  "None -> Scheduled": ["add"],
  "Scheduled -> Ready": ["due", "replace"],
  "Scheduled -> Scheduled": ["replace"],
  "Scheduled -> Cancelled": ["cancel"],
  "Scheduled -> None": ["clear"],
  "Ready -> Scheduled": ["replace"],
  "Ready -> Ready": ["replace"],
  "Ready -> Cancelled": ["cancel"],
  "Ready -> None": ["clear"],
  "Ready -> Running": ["claim"],
  "Ready -> Skipped": ["skip"],
  "Running -> Completed": ["complete"],
  "Running -> Failed": ["fail"],
  "Running -> Cancelled": ["abort", "takeOver"],
  "Running -> Scheduled": ["replace", "retry", "snooze"],
  "Running -> Ready": ["replace", "retry", "snooze", "release", "takeOver"],
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

  it.effect("every step of the table is reached by commands, and the model makes no other", () =>
    Effect.gen(function*() {
      const made = new Set<string>()
      for (const sequence of yield* Arbitrary.sampleEffect(sequences, { count: 1000, size: 60, seed: "docket" })) {
        let state = initial(0)
        for (const raw of sequence) state = step(state, resolve(state, raw))[0]
        for (const one of state.steps) made.add(one)
      }
      const allowed = all.filter(({ from, name, to }) => isAllowed(name, from, to))
      assert.deepStrictEqual(
        Array.from(made).toSorted(),
        allowed.map(({ from, name, to }) => `${name}: ${from} -> ${to}`).toSorted()
      )
    }))
})
