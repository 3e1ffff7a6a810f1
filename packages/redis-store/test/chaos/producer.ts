/**
 * A producer: `producer.ts URL DOCKET NAME SEED FROM UNTIL RATE LEDGER`. It adds so many runs a second until a time, beginning
 * with number FROM, and insists on each: an addition that was not answered may have been written. The seed decides what each
 * number is.
 */
import { now } from "./clock.ts"
// the clock comes first
import { Docket, type DocketError } from "@effect-docket/dsl"
import { RedisStore } from "@effect-docket/redis-store"
import { DocketEngine } from "@effect-docket/runtime"
import { Effect, Fiber, Layer, Random, Schedule } from "effect"
import * as book from "./book.ts"
import { Beat, beat, brief, Flaky, Parts, Plain, Rated, retries, Serial, Works } from "./tasks.ts"

const [url = "", docket = "", name = "", seed = "", from = "", until = "", rate = "", file = ""] = process.argv.slice(2)

const write = book.open(file)
write({ tag: "code", at: now(), from: import.meta.resolve("@effect-docket/redis-store") })

const insist = <A, E extends { readonly _tag: string }, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.retry(effect, {
    while: ({ _tag }) => _tag === "DocketError",
    schedule: Schedule.jittered(Schedule.spaced(200))
  })

const isKnown = (key: string) =>
  insist(Docket.Docket.use((docket) => Effect.map(docket.get(key), (run) => run !== undefined)))

/** Adds a run until it is there: it looks before it adds again. */
const addInsisting = <R>(
  key: string,
  after: number,
  ends: book.Ending,
  add: (options: { readonly key: string; readonly after: number }) => Effect.Effect<unknown, DocketError.DocketError, R>
) => {
  const again: Effect.Effect<void, never, R | Docket.Docket> = add({ key, after }).pipe(
    Effect.asVoid,
    Effect.catch(() =>
      Effect.flatMap(Effect.orDie(isKnown(key)), (known) =>
        known
          ? Effect.void
          : Effect.suspend(() => {
            write({ tag: "again", at: now(), key })
            return again
          }))
    )
  )
  return Effect.suspend(() => {
    write({ tag: "intend", at: now(), key, after, ends })
    return Effect.andThen(again, Effect.sync(() => write({ tag: "added", at: now(), key })))
  })
}

const cancel = (key: string) =>
  Effect.suspend(() => {
    write({ tag: "cancelling", at: now(), key })
    return Effect.andThen(insist(Docket.cancel(key)), Effect.sync(() => write({ tag: "cancelled", at: now(), key })))
  })

// however slow the machine is
const least = 30

const values = ["red", "green", "blue"]

const one = Effect.fnUntraced(function*(n: number) {
  const key = `${name}-${n}`
  const pick = yield* Random.nextIntBetween(0, 11)
  // most are short; some take as long as a lease, so that one that lost its claim meets the one that has it
  const millis = yield* n % 8 === 0 ? Random.nextIntBetween(1000, 5000) : Random.nextIntBetween(brief, 400)
  const after = (yield* Random.nextBoolean) ? 0 : yield* Random.nextIntBetween(100, 2500)
  if (pick < 4) {
    yield* addInsisting(key, after, n, (options) => Docket.add(Plain, { n, millis }, options))
    if (after > 1000 && pick === 0) yield* Effect.andThen(Effect.sleep(300), cancel(key))
  } else if (pick < 6) {
    // some succeed in the end, some do not
    const until = n % 4 === 0 ? Number.MAX_SAFE_INTEGER : 1 + n % retries.times
    const ends = until > retries.times ? "fails" : n
    yield* addInsisting(key, after, ends, (options) => Docket.add(Flaky, { n, until }, options))
  } else if (pick < 8) {
    const of = values[n % values.length]!
    yield* addInsisting(
      key,
      after,
      n,
      (options) => Docket.add(Serial, { n, millis: brief + millis % 480, of }, options)
    )
  } else if (pick < 10) {
    yield* addInsisting(key, after, n, (options) => Docket.add(Rated, { n }, options))
  } else {
    const parts = n % 6
    const sum = parts * (parts - 1) / 2
    yield* addInsisting(key, after, sum, (options) => Docket.start(Parts, { n, parts }, options))
  }
})

const main = Effect.gen(function*() {
  const first = Number(from)
  const adding: Array<Fiber.Fiber<void, unknown>> = []
  if (first === 0) {
    for (const key of [`${name}-beat-a`, `${name}-beat-b`]) {
      adding.push(
        yield* Effect.forkChild(
          addInsisting(key, beat, "goes on", (options) => Docket.add(Beat, undefined, options)),
          { startImmediately: true }
        )
      )
    }
  }
  for (let n = first; n < least || now() < Number(until); n++) {
    // it goes on while the store is away
    adding.push(yield* Effect.forkChild(Random.withSeed(one(n), `${seed} ${name} ${n}`), { startImmediately: true }))
    yield* Effect.sleep(1000 / Number(rate))
  }
  yield* Effect.forEach(adding, Fiber.join)
})

const layer = Works.client.pipe(
  Layer.provideMerge(DocketEngine.layer({ name: docket })),
  Layer.provide(RedisStore.layer({ url }))
)

process.stdout.write("ready\n")
// the server may be away just now
await Effect.runPromise(
  Effect.flatMap(Effect.retry(Layer.build(layer), Schedule.spaced(200)), (context) => Effect.provide(main, context))
    .pipe(Effect.scoped)
)
