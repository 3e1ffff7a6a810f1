import { Task } from "@effect-docket/dsl"
import { gatesOf, resolved } from "@effect-docket/dsl/Interpreter"
import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"

const payload = { customer: Schema.String, n: Schema.Int }

describe("What a gate is about", () => {
  const textOf = (
    tag: string,
    concurrency: Task.Options<{ customer: string; n: number }, never, never>["concurrency"]
  ) => {
    const task = Task.make(tag, { payload, concurrency })
    return gatesOf(task._tag, resolved(task).gates, { customer: "c/1", n: 2 })?.concurrency
  }

  it("a task without gates has none", () => {
    assert.isUndefined(gatesOf("A", resolved(Task.make("A")).gates, undefined))
  })

  it("is the task, or one value of it", () => {
    assert.strictEqual(textOf("A", 1), "A")
    assert.strictEqual(textOf("A", { max: 1 }), "A")
    assert.strictEqual(textOf("A", { max: 1, key: ["customer"] }), "A/c%2F1")
    assert.strictEqual(textOf("A", { max: 1, key: ["customer", "n"] }), "A/c%2F1/2")
    assert.strictEqual(textOf("A", { max: 1, key: ({ customer }) => customer }), "A/c/1")
  })

  it("is the scope instead of the task where one is named, and no tag is like a scope", () => {
    assert.strictEqual(textOf("A", { max: 1, scope: "api" }), ":api")
    assert.strictEqual(textOf("B", { max: 2, scope: "api" }), ":api")
    assert.strictEqual(textOf("A", { max: 1, scope: "api", key: ["n"] }), ":api/2")
    assert.strictEqual(textOf(":api", 1), "%3Aapi")
  })
})
