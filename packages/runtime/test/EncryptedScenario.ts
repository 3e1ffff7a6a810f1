/**
 * Secrets through a docket, on any store: in a payload, a success, an error, the failures before it, and progress. Everybody
 * who has the keys reads them; nobody else sees them anywhere.
 */
import { Docket, Encrypted, Execution, Progress, Task, TaskGroup } from "@effect-docket/dsl"
import { DocketEngine, type DocketStore, Worker } from "@effect-docket/runtime"
import { assert } from "@effect/vitest"
import { Effect, Fiber, Redacted, Schedule, Schema, Stream } from "effect"

/** Each of them would be found wherever it is written. */
export const secrets = {
  card: "4242-payload-secret",
  receipt: "receipt-success-secret",
  why: "funds-error-secret",
  step: "step-progress-secret"
}

export const Hidden = (field: string) => Encrypted.make(field, Schema.Redacted(Schema.String))

class Declined extends Schema.TaggedError<Declined>()("Declined", { why: Hidden("Declined.why") }) {}

export class Charge extends Task.make("Charge", {
  payload: { order: Schema.String, card: Hidden("Charge.card") },
  success: Schema.Struct({ receipt: Hidden("Charge.receipt") }),
  error: Declined,
  progress: Hidden("Charge.step"),
  retry: Schedule.recurs(1),
  key: ["order"]
}) {}
export class Shop extends TaskGroup.make(Charge) {}

export const ShopLive = Shop.toLayer({
  Charge: Effect.fnUntraced(function*({ card, order }) {
    assert.strictEqual(Redacted.value(card), secrets.card)
    yield* Progress.report(Charge, Redacted.make(secrets.step))
    yield* Effect.logError("charging", card)
    if (order === "declined") return yield* new Declined({ why: Redacted.make(secrets.why) })
    const { attempt } = yield* Execution.CurrentExecution
    return { receipt: Redacted.make(`${secrets.receipt} ${attempt}`) }
  })
})

const secretOf = (byte: number) => Redacted.make(Buffer.alloc(32, byte).toString("base64"))

/** Two generations of keys. */
export const old: Encrypted.Key = { id: "old", secret: secretOf(1) }
export const recent: Encrypted.Key = { id: "recent", secret: secretOf(2) }

/** With keys, the first of which encrypts. */
export const withKeys = (...keys: readonly [Encrypted.Key, ...ReadonlyArray<Encrypted.Key>]) =>
  Effect.provide(Encrypted.layer(keys))

/** Adds an order. */
export const charge = (order: string) => Docket.add(Charge, { order, card: Redacted.make(secrets.card) })

/** The letter of an order. */
export const letterOf = (order: string) =>
  Effect.map(
    Stream.runCollect(Docket.deadLetters(Charge)),
    (letters) => letters.find(({ key }) => key === `Charge/${order}`)
  )

/** Nothing of what was seen shows a secret. */
export const assertHidden = (seen: unknown) => {
  const text = typeof seen === "string" ? seen : JSON.stringify(seen)
  for (const secret of Object.values(secrets)) assert.notInclude(text, secret)
}

/** Events until so many runs have finished. */
const endingAfter = <E, R>(runs: number, events: Stream.Stream<DocketStore.StoredEvent, E, R>) => {
  let finished = 0
  return Stream.takeUntil(events, ({ event }) => event._tag === "Finished" && ++finished === runs)
}

/** One order that is charged and one that is declined, and everything that can be seen of them without keys. */
export const scenario = Effect.gen(function*() {
  const docket = yield* Docket.Docket
  const { store } = yield* DocketEngine.DocketEngine
  const events = Stream.fromQueue(yield* store.subscribe(undefined))
  const ok = yield* charge("ok")
  const declined = yield* charge("declined")
  const progress = yield* ok.changes.pipe(Stream.runCollect, Effect.forkChild({ startImmediately: true }))
  const pending = yield* Stream.runCollect(docket.snapshot)
  yield* Worker.runUntilIdle(Shop)
  // those who have the keys
  assert.strictEqual(Redacted.value((yield* ok.await).receipt), `${secrets.receipt} 1`)
  const error = yield* Effect.flip(declined.await)
  assert.strictEqual(error._tag === "Declined" ? Redacted.value(error.why) : error.message, secrets.why)
  const letter = yield* letterOf("declined")
  assert.strictEqual(letter?.attempts, 2)
  assert.strictEqual(Redacted.value(letter!.payload.card), secrets.card)
  assert.isTrue(
    (yield* Fiber.join(progress)).some((change) =>
      change._tag === "Progress" && Redacted.value(change.value) === secrets.step
    )
  )
  // and everybody else
  return {
    events: yield* Stream.runCollect(endingAfter(2, events)),
    pending,
    printed: [String(error), JSON.stringify(error), JSON.stringify(letter)],
    outcomes: [yield* docket.outcome("Charge/ok", 1), yield* docket.outcome("Charge/declined", 1)],
    runs: [yield* docket.get("Charge/ok"), yield* docket.get("Charge/declined")],
    settled: yield* Stream.runCollect(docket.snapshot),
    letters: yield* Stream.runCollect(docket.deadLetters("Charge"))
  }
})
