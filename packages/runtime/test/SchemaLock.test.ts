/**
 * The check of `docket.lock.json`: what it takes for a breaking change, what not, and what it keeps in the file.
 */
import { Encrypted, Flow, Task, TaskGroup } from "@effect-docket/dsl"
import { SchemaLock } from "@effect-docket/runtime/testing"
import { assert, describe, it } from "@effect/vitest"
import { Effect, type Layer, Redacted, Schema } from "effect"
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import * as path from "node:path"

/** A file of its own, gone in the end. */
const file = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(path.join(tmpdir(), "docket-lock-"))),
  (folder) => Effect.promise(() => rm(folder, { recursive: true }))
).pipe(Effect.map((folder) => path.join(folder, "docket.lock.json")))

const text = (file: string) => Effect.promise(() => readFile(file, "utf8"))

class Gone extends Schema.TaggedError<Gone>()("Gone", { id: Schema.Int }) {}

const fields = {
  id: Schema.Int,
  at: Schema.DateTimeUtc,
  to: Schema.Literals(["mail", "letter"]),
  note: Schema.optionalKey(Schema.String)
}
const success = Schema.Struct({ sent: Schema.BigInt })

const group = (task: Task.Any) => TaskGroup.make(task as Task.Task<"Send">) // its tag is that

const before = group(Task.make("Send", { payload: fields, success, error: Gone }))

/** What is said of the code of the next release. */
const after = (task: Task.Any) =>
  Effect.gen(function*() {
    const locked = { file: yield* file }
    yield* SchemaLock.write(before, locked)
    yield* SchemaLock.check(before, locked)
    const error = yield* Effect.flip(SchemaLock.check(group(task), locked))
    return { error, kinds: error.differences.map(({ _tag, of }) => `${_tag} ${of}`), locked }
  })

describe("A schema lock", () => {
  it.effect("holds what the code stores, and is the same each time", () =>
    Effect.gen(function*() {
      const locked = yield* file
      const missing = yield* Effect.flip(SchemaLock.check(before, { file: locked }))
      assert.include(missing.message, "there is none: make one with `SchemaLock.write`")
      yield* SchemaLock.write(before, { file: locked })
      const first = yield* text(locked)
      assert.deepStrictEqual(yield* SchemaLock.write(before, { file: locked }), [])
      assert.strictEqual(yield* text(locked), first)
      const { tasks } = JSON.parse(first) as { readonly tasks: Readonly<Record<string, Record<string, unknown>>> }
      const { error, payload, success } = tasks["Send"] as Record<string, { readonly samples: ReadonlyArray<unknown> }>
      for (const part of [payload, success, error]) assert.isAbove(part!.samples.length, 3)
      // every member of a union, and a field with and without
      for (const found of ["\"mail\"", "\"letter\"", "\"note\""]) {
        assert.include(JSON.stringify(payload!.samples), found)
      }
      assert.isTrue(payload!.samples.some((sample) => !Object.hasOwn(sample as object, "note")))
    }))

  it.effect("accepts a field that may be missing, and asks to be written", () =>
    Effect.gen(function*() {
      const next = Task.make("Send", {
        payload: { ...fields, more: Schema.optionalKey(Schema.Int) },
        success,
        error: Gone
      })
      const { error, kinds, locked } = yield* after(next)
      assert.deepStrictEqual(kinds, ["Changed Send.payload"])
      assert.include(error.message, "it is not up to date")
      yield* SchemaLock.write(group(next), locked)
      yield* SchemaLock.check(group(next), locked)
      // what the first release has stored is still there
      const third = Task.make("Send", { payload: { ...fields, more: Schema.Int }, success, error: Gone })
      const again = yield* Effect.flip(SchemaLock.check(group(third), locked))
      assert.include(again.message, "[\"more\"]")
    }))

  it.effect("has a counter-example for a field that is new, another type, and a member that is gone", () =>
    Effect.gen(function*() {
      for (
        const [payload, where] of [
          [{ ...fields, more: Schema.Int }, "[\"more\"]"],
          [{ ...fields, id: Schema.String }, "[\"id\"]"],
          [{ ...fields, to: Schema.Literal("mail") }, "[\"to\"]"]
        ] as const
      ) {
        const { error, kinds, locked } = yield* after(Task.make("Send", { payload, success, error: Gone }))
        assert.deepStrictEqual(kinds, ["Breaking Send.payload"])
        assert.include(error.message, "what is stored is not read any more")
        assert.match(error.differences[0]!.message, /^\{"id":.*\} of version 1: /)
        assert.include(error.message, where)
        const refused = yield* Effect.flip(
          SchemaLock.write(group(Task.make("Send", { payload, success, error: Gone })), locked)
        )
        assert.include(refused.message, "it is not written")
      }
    }))

  it.effect("accepts such a change with a version that migrates what is stored, of the versions before as well", () =>
    Effect.gen(function*() {
      const payload = { name: Schema.String }
      const migrate = (stored: unknown) => ({ name: String((stored as { readonly id: number }).id) }) // of version 1
      const second = Task.make("Send", { payload, success, error: Gone, version: 2, migrate })
      const { kinds, locked } = yield* after(second)
      assert.deepStrictEqual(kinds, ["Changed Send.payload", "Changed Send"])
      yield* SchemaLock.write(group(second), locked)
      yield* SchemaLock.check(group(second), locked)
      // version 3 forgets those of version 1
      const third = Task.make("Send", {
        payload: { names: Schema.Array(Schema.String) },
        success,
        error: Gone,
        version: 3,
        migrate: (stored, version) => {
          if (version === 1) throw new Error("unknown version 1")
          return { names: [(stored as { readonly name: string }).name] } // of version 2
        }
      })
      const error = yield* Effect.flip(SchemaLock.check(group(third), locked))
      assert.deepStrictEqual(error.differences.filter(({ _tag }) => _tag === "Breaking").map(({ of }) => of), [
        "Send.payload"
      ])
      assert.include(error.message, "of version 1: unknown version 1")
      // a version without `migrate` reads what is stored as it is
      const bare = yield* after(Task.make("Send", { payload, success, error: Gone, version: 2 }))
      assert.deepStrictEqual(bare.kinds, ["Breaking Send.payload", "Changed Send"])
    }))

  it.effect("watches results, errors, and what is gone", () =>
    Effect.gen(function*() {
      const results = yield* after(
        Task.make("Send", { payload: fields, success: Schema.Struct({ sent: Schema.Boolean }), error: Gone })
      )
      assert.deepStrictEqual(results.kinds, ["Breaking Send.success"])
      const errors = yield* after(Task.make("Send", { payload: fields, success }))
      assert.deepStrictEqual(errors.kinds, ["Breaking Send.error"])
      const renamed = yield* after(Task.make("Renamed", { payload: fields, success, error: Gone }))
      assert.deepStrictEqual(renamed.kinds, ["Breaking Send", "Changed Renamed"])
      const written = yield* SchemaLock.write(group(Task.make("Renamed")), { ...renamed.locked, force: true })
      assert.strictEqual(written.length, 2)
      yield* SchemaLock.check(group(Task.make("Renamed")), renamed.locked)
    }))

  it.effect("has every member of a large union, and texts that are empty", () =>
    Effect.gen(function*() {
      const members = Array.from({ length: 150 }, (_, n) => `m${n}`)
      const locked = { file: yield* file }
      const of = (literals: ReadonlyArray<string>) =>
        TaskGroup.make(Task.make("T", { payload: { member: Schema.Literals(literals), text: Schema.String } }))
      yield* SchemaLock.write(of(members), locked)
      for (const member of members) {
        const others = of(members.filter((other) => other !== member))
        assert.include((yield* Effect.flip(SchemaLock.check(others, locked))).message, `"member":"${member}"`)
      }
      const filled = TaskGroup.make(
        Task.make("T", { payload: { member: Schema.Literals(members), text: Schema.NonEmptyString } })
      )
      assert.include((yield* Effect.flip(SchemaLock.check(filled, locked))).message, "Breaking: T.payload")
    }))

  it.effect("refuses a schema that no value can be drawn from: there would be nothing to read", () =>
    Effect.gen(function*() {
      const Never = Schema.String.check(Schema.makeFilter((text) => text.startsWith("order-")))
      const rare = TaskGroup.make(Task.make("T", { payload: { id: Never } }))
      const error = yield* Effect.flip(SchemaLock.write(rare, { file: yield* file }))
      assert.include(error.message, "no sample of T.payload")
    }))

  it.effect("keeps the samples of other tasks when one is forced, and those of results across versions", () =>
    Effect.gen(function*() {
      const locked = { file: yield* file }
      const Other = Task.make("Other")
      const send = (success: Schema.Codec<unknown, unknown>, version = 1) =>
        Task.make("Send", { payload: fields, success, error: Gone, version, migrate: (stored) => stored as never })
      const withTags = Schema.Struct({
        tags: Schema.Array(Schema.String).pipe(Schema.withDecodingDefaultKey(Effect.succeed([])))
      })
      yield* SchemaLock.write(TaskGroup.make(send(Schema.Struct({})), Other), locked)
      yield* SchemaLock.write(TaskGroup.make(send(withTags), Other), locked)
      yield* SchemaLock.write(TaskGroup.make(send(withTags)), { ...locked, force: true })
      const strict = Schema.Struct({ tags: Schema.Array(Schema.String) })
      for (const version of [1, 2]) {
        const { differences } = yield* Effect.flip(SchemaLock.check(TaskGroup.make(send(strict, version)), locked))
        assert.include(differences.map(({ _tag, of }) => `${_tag} ${of}`), "Breaking Send.success")
      }
    }))

  it.effect("watches the graphs of flows", () =>
    Effect.gen(function*() {
      class A extends Task.make("A", { success: Schema.Void }) {}
      class B extends Task.make("B") {}
      class Both extends TaskGroup.make(A, B) {}
      const locked = yield* file
      const flow = (version: number, isLonger: boolean) =>
        Flow.make("F", isLonger ? A.pipe(Flow.andThen(B), Flow.andThen(B)) : A.pipe(Flow.andThen(B)), { version })
      yield* SchemaLock.write(Both, { file: locked, flows: [flow(2, false)] })
      yield* SchemaLock.check(Both, { file: locked, flows: [flow(2, false)] })
      const kindOf = (flows: ReadonlyArray<ReturnType<typeof flow>>) =>
        Effect.map(Effect.flip(SchemaLock.check(Both, { file: locked, flows })), ({ differences }) =>
          differences.map(({ _tag }) => _tag))
      assert.deepStrictEqual(yield* kindOf([flow(2, true)]), ["Breaking"])
      assert.deepStrictEqual(yield* kindOf([flow(3, true)]), ["Changed", "Changed"])
      assert.deepStrictEqual(yield* kindOf([flow(1, false)]), ["Breaking", "Changed"])
      // both versions, while runs of the old one are under way
      assert.deepStrictEqual(yield* kindOf([flow(2, false), flow(3, true)]), ["Changed"])
      assert.deepStrictEqual(yield* kindOf([flow(2, true), flow(3, true)]), ["Breaking", "Changed"])
      assert.deepStrictEqual(yield* kindOf([]), ["Breaking"])
    }))

  it.effect("needs the keys of encrypted fields, and holds no value in clear", () =>
    Effect.gen(function*() {
      class Secret extends Task.make("Secret", {
        payload: { token: Encrypted.make("token", Schema.Redacted(Schema.Literal("s3cr3t-token"))) }
      }) {}
      class Secrets extends TaskGroup.make(Secret) {}
      const keys: Layer.Layer<Encrypted.Keyring, unknown> = Encrypted.layer([
        { id: "k", secret: Redacted.make(Buffer.alloc(32, 1).toString("base64")) }
      ])
      const locked = yield* file
      yield* Effect.provide(SchemaLock.write(Secrets, { file: locked }), keys)
      yield* Effect.provide(SchemaLock.check(Secrets, { file: locked }), keys)
      const { tasks } = JSON.parse(yield* text(locked)) as {
        readonly tasks: { readonly Secret: { readonly payload: unknown } }
      }
      assert.include(JSON.stringify(tasks.Secret.payload), "v1.k.")
      assert.notInclude(yield* text(locked), "s3cr3t-token")
    }))

  it.effect("that cannot be read is an error", () =>
    Effect.gen(function*() {
      const locked = yield* file
      for (const text of ["{", "{}", "null"]) {
        yield* Effect.promise(() => writeFile(locked, text))
        assert.include((yield* Effect.flip(SchemaLock.check(before, { file: locked }))).message, "it cannot be read")
      }
      const folder = yield* Effect.flip(SchemaLock.write(before, { file: path.dirname(locked) }))
      assert.include(folder.message, "it cannot be read")
    }))
})
