/**
 * Whether tests notice a mutation.
 */
import { Console, Effect } from "effect"
import { readFileSync, writeFileSync } from "node:fs"
import * as path from "node:path"
import { mutate, type Mutation, patternOf, type Tests } from "./mutation.ts"
import { runTests } from "./vitest.ts"

// Longer than any of these tests takes. One that has not ended by then waits for what the mutation took away.
const limit = 180_000
// The same for all tests of a file together, without a mutation.
const longest = 1_800_000

/** What became of a mutation. Only one that was noticed is well. */
export interface Verdict {
  readonly status: "noticed" | "survived" | "invalid"
  /** The test that noticed it, or why none did. */
  readonly by: string
}

/** The tests that pass without a mutation, by file and full name: one of them that fails with it, has noticed it. */
export const passing = Effect.fnUntraced(function*(folder: string, chosen: ReadonlyArray<Mutation>) {
  const passing = new Set<string>()
  const files = Map.groupBy(chosen.map(({ noticedBy }) => noticedBy), ({ file }) => file)
  for (const tests of files.values()) {
    const ended = yield* runTests(folder, tests, longest)
    for (const name of ended?.passed ?? []) passing.add(name)
    for (const name of ended?.failed ?? []) yield* Console.log(`fails without a mutation, and is not asked: ${name}`)
    for (const error of ended?.errors ?? ["the tests do not end"]) yield* Console.log(`without a mutation: ${error}`)
  }
  return passing
})

const isOf = (tests: Tests) => {
  const pattern = new RegExp(patternOf(tests))
  return (name: string) => name.startsWith(`${tests.file}: `) && pattern.test(name)
}

/** Makes the change in the copy, runs its tests, and takes it back. */
export const judge = Effect.fnUntraced(function*(
  folder: string,
  mutation: Mutation,
  passing: ReadonlySet<string>
): Effect.fn.Return<Verdict> {
  const { file, noticedBy } = mutation
  if (!Array.from(passing).some(isOf(noticedBy))) {
    return { status: "invalid", by: "no test of that name passes without it" }
  }
  const where = path.join(folder, file)
  const before = readFileSync(where, "utf8")
  const after = mutate(mutation, before)
  if ("invalid" in after) return { status: "invalid", by: after.invalid }
  const ended = yield* Effect.acquireUseRelease(
    Effect.sync(() => writeFileSync(where, after.text)),
    () => runTests(folder, [noticedBy], limit),
    () => Effect.sync(() => writeFileSync(where, before))
  )
  if (ended === undefined) return { status: "noticed", by: "the tests do not end" }
  const first = ended.failed.find((name) => passing.has(name))
  if (first !== undefined) return { status: "noticed", by: first }
  if (ended.errors.length > 0) return { status: "invalid", by: ended.errors[0]! }
  return ended.passed.length > 0
    ? { status: "survived", by: `${ended.passed.length} tests pass: ${mutation.breaks}` }
    : { status: "invalid", by: "no test was run" }
})
