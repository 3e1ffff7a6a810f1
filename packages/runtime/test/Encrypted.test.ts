// @effect-diagnostics missingEffectContext:off missingLayerContext:off -- that they are missing is what is tested
import { Docket, type DocketError, Encrypted, Flow, Task, TaskGroup } from "@effect-docket/dsl"
import { DocketEngine, Worker } from "@effect-docket/runtime"
import { DocketTest } from "@effect-docket/runtime/testing"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Redacted, Schema, Stream } from "effect"
import * as scenario from "./EncryptedScenario.ts"
import * as Kit from "./Kit.ts"

const { Charge, Shop, ShopLive, charge, old, recent, withKeys } = scenario

const bundle = Kit.live(Shop, ShopLive)

/** The dead letter of an order that was added with a key and met a worker with others. */
const refused = Effect.fnUntraced(function*(...keys: readonly [Encrypted.Key, ...ReadonlyArray<Encrypted.Key>]) {
  const run = yield* charge("ok").pipe(withKeys(old))
  yield* Worker.runUntilIdle(Shop).pipe(withKeys(...keys))
  const docket = yield* Docket.Docket
  const [letter] = yield* Stream.runCollect(docket.deadLetters("Charge"))
  assert.strictEqual(letter?.attempt, 1)
  const reason = Kit.reasonOf(yield* Effect.flip(run.await).pipe(withKeys(...keys)))
  assert.strictEqual(reason._tag, "Undecodable")
  scenario.assertHidden([letter, reason.message])
  return reason.message
})

describe("Encrypted fields", () => {
  it.effect("are nowhere in clear, and come back to those who have the keys", () => {
    const logs = Kit.logs("Debug")
    return Effect.gen(function*() {
      scenario.assertHidden(yield* scenario.scenario)
      assert.isAbove(logs.lines.length, 0)
      scenario.assertHidden(logs.lines.map(({ text }) => text))
    }).pipe(Effect.scoped, withKeys(recent), Effect.provide(Layer.provideMerge(bundle, logs.layer)))
  })

  it.effect("of an unknown key are a dead letter after one claim, which names the key", () =>
    Effect.gen(function*() {
      const message = yield* refused(recent)
      assert.include(message, "[\"card\"]")
      assert.include(message, "encrypted with the key \"old\"")
    }).pipe(Effect.provide(bundle)))

  it.effect("of another key with that id are a dead letter after one claim", () =>
    Effect.map(refused({ ...recent, id: "old" }), (message) => assert.include(message, "does not decrypt with the key"))
      .pipe(Effect.provide(bundle)))

  it.effect("that were changed in the store are a dead letter after one claim; other runs go on", () =>
    Effect.gen(function*() {
      const docket = yield* Docket.Docket
      yield* charge("ok").pipe(Effect.andThen(charge("other")), Effect.andThen(Effect.void))
      const [first] = yield* Stream.runCollect(docket.snapshot)
      const payload = first!.payload as { readonly order: string; readonly card: string } // as `Charge` is encoded
      const end = payload.card.lastIndexOf(".") + 1
      const card = payload.card.slice(0, end) + (payload.card[end] === "A" ? "B" : "A") + payload.card.slice(end + 1)
      yield* docket.addEncoded([
        Kit.encoded({
          task: "Charge",
          key: first!.key,
          payload: JSON.stringify({ ...payload, card }),
          onExisting: "replace"
        })
      ], { atomic: true })
      yield* Worker.runUntilIdle(Shop)
      const runs = yield* Effect.forEach(["Charge/ok", "Charge/other"], docket.get)
      assert.deepStrictEqual(runs.map((run) => run?.state).toSorted(), ["Completed", "Failed"])
      const [letter] = yield* Stream.runCollect(docket.deadLetters("Charge"))
      assert.strictEqual(letter?.key, first!.key)
      assert.include(letter!.exit, "does not decrypt")
    }).pipe(withKeys(old), Effect.provide(bundle)))

  it.effect("are read with the old key and written with the new one after a rotation; dead letters too", () =>
    Effect.gen(function*() {
      const docket = yield* Docket.Docket
      const cards = Effect.map(
        Stream.runCollect(docket.deadLetters("Charge")),
        (letters) => letters.map(({ payload }) => (JSON.parse(payload) as { readonly card: string }).card.split(".")[1]) // as `Charge` is encoded
      )
      yield* charge("declined").pipe(Effect.andThen(Worker.runUntilIdle(Shop)), withKeys(old))
      assert.deepStrictEqual(yield* cards, ["old"])
      yield* Effect.gen(function*() {
        // as it was stored
        assert.strictEqual(yield* Docket.redrive(Charge), 1)
        yield* Worker.runUntilIdle(Shop)
        assert.deepStrictEqual(yield* cards, ["old"])
        // encrypted again
        assert.strictEqual(yield* Docket.redrive(Charge, { map: ({ payload }) => payload }), 1)
        yield* Worker.runUntilIdle(Shop)
        assert.deepStrictEqual(yield* cards, ["recent"])
      }).pipe(withKeys(recent, old))
      // nothing needs the old key any more
      const letter = yield* scenario.letterOf("declined").pipe(withKeys(recent))
      assert.strictEqual(Redacted.value(letter!.payload.card), scenario.secrets.card)
    }).pipe(Effect.provide(bundle)))

  it.effect("travel through the steps of a flow", () => {
    class Fetch extends Task.make("Fetch", {
      success: Schema.Struct({ token: Encrypted.make("Fetch.token", Schema.Redacted(Schema.String)) })
    }) {}
    class Use extends Task.make("Use", {
      payload: { token: Encrypted.make("Use.token", Schema.Redacted(Schema.String)) },
      success: Schema.Boolean
    }) {}
    class Steps extends TaskGroup.make(Fetch, Use) {}
    const Login = Flow.make("Login", Fetch.pipe(Flow.andThen(Use)))
    const StepsLive = Steps.toLayer({
      Fetch: () => Effect.succeed({ token: Redacted.make(scenario.secrets.card) }),
      Use: ({ token }) => Effect.succeed(Redacted.value(token) === scenario.secrets.card)
    })
    return Effect.gen(function*() {
      const docket = yield* Docket.Docket
      const run = yield* Docket.start(Login, undefined, { key: "login" })
      yield* DocketTest.drain(Steps, { flows: [Login] })
      assert.isTrue(yield* run.await)
      scenario.assertHidden([yield* docket.get("login"), yield* docket.outcome("login", 1)])
    }).pipe(withKeys(recent), Effect.provide(Kit.live(Steps, StepsLive)))
  })

  it.effect("cannot be compared by a strike, also where they may be missing", () => {
    const Maybe = Task.make("Maybe", { payload: { card: Schema.NullOr(scenario.Hidden("Maybe.card")) } })
    return Effect.gen(function*() {
      for (const task of [Charge, Maybe] as const) {
        const error = yield* Effect.flip(
          Docket.strike(task, { where: { card: Redacted.make("x") }, reason: "stolen" })
        )
        assert.strictEqual(error.reason._tag, "InvalidPayload")
        assert.include(error.message, "field card is encrypted")
      }
    }).pipe(Effect.provide(bundle))
  })

  it("are refused by the compiler where there is no keyring", () => {
    const Engine = DocketEngine.layerMemory
    // @ts-expect-error a producer encodes the payload
    const producer: Effect.Effect<unknown, DocketError.DocketError> = Effect.provide(
      charge("x"),
      Shop.client.pipe(Layer.provide(Engine))
    )
    // @ts-expect-error a worker decodes the payload
    const worker: Layer.Layer<never, DocketError.DocketError> = Worker.layer(Shop).pipe(
      Layer.provide(Layer.merge(ShopLive, Engine))
    )
    const complete: Layer.Layer<never, DocketError.DocketError> = Worker.layer(Shop).pipe(
      Layer.provide(Layer.mergeAll(ShopLive, Engine, Encrypted.layer([recent])))
    )
    assert.isTrue([producer, worker, complete].every((value) => value !== undefined))
  })
})
