/**
 * What is broken on purpose: that the list of `npm run mutate` fits the sources, and that the runner tells what is noticed
 * from what is not. All of them are run by that command, and not here.
 */
import { Effect } from "effect"
import { readFileSync } from "node:fs"
import * as path from "node:path"
import { assert, describe, it } from "vitest"
import { copyOf } from "./mutation/copy.ts"
import { judge, passing } from "./mutation/judge.ts"
import { mutate, type Mutation, patternOf, unit } from "./mutation/mutation.ts"
import { mutations } from "./mutation/mutations.ts"

const root = path.resolve(import.meta.dirname, "..")

describe("mutations", () => {
  it("each changes a text that is there, and there once", () => {
    const wrong = mutations.flatMap((mutation) => {
      const result = mutate(mutation, readFileSync(path.join(root, mutation.file), "utf8"))
      return "invalid" in result ? [`${mutation.id}: ${result.invalid} (${mutation.file})`] : []
    })
    assert.deepStrictEqual(wrong, [], "the source has changed: let the mutation follow it, in test/mutation")
  })

  it("each has an id of its own, and there are more than forty", () => {
    assert.strictEqual(new Set(mutations.map(({ id }) => id)).size, mutations.length)
    assert.isAbove(mutations.length, 40)
  })

  it("names of tests are texts, whatever is in them", () => {
    const pattern = new RegExp(patternOf(unit("a.test.ts", "(a) → b*?", "c")))
    assert.deepStrictEqual(["x (a) → b*?", "x c", "x a → b"].map((name) => pattern.test(name)), [true, true, false])
  })

  it("one is noticed, another survives, others are none; the working tree stays as it is", async () => {
    const file = "packages/dsl/src/internal/agenda.ts"
    const before = readFileSync(path.join(root, file), "utf8")
    const noticedBy = unit("packages/dsl/test/Agenda.test.ts", "spreads 1 items")
    const of = (id: string, find: string, replace: string): Mutation => ({
      id,
      file,
      find,
      replace,
      breaks: id,
      noticedBy
    })
    const chosen = [
      of("real", "count === 1 ? total / 2", "count === 1 ? 0"),
      of("none", "let low = 0\n", "let low = 0 + 0\n"),
      of("absent", "this is not there", ""),
      of("broken", "export const spread", "export const export"),
      { ...of("unknown", "let low = 0\n", ""), noticedBy: unit("packages/dsl/test/Agenda.test.ts", "no such test") }
    ]
    const verdicts = await Effect.runPromise(Effect.scoped(Effect.gen(function*() {
      const folder = yield* copyOf(root)
      const known = yield* passing(folder, chosen)
      return yield* Effect.forEach(chosen, (mutation) => judge(folder, mutation, known))
    })))
    assert.deepStrictEqual(
      verdicts.map(({ status }) => status),
      ["noticed", "survived", "invalid", "invalid", "invalid"]
    )
    assert.include(verdicts[0]!.by, "spreads 1 items")
    assert.strictEqual(readFileSync(path.join(root, file), "utf8"), before)
  })
})
