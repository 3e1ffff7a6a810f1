/**
 * The proof that everything was done exactly once: by key, from two sources. The outcome that the docket keeps of each key
 * says that it was done, and by whom; the events say how often it was.
 */
import { Docket } from "@effect-docket/dsl"
import { Effect, Exit, Option, Stream } from "effect"
import { Work } from "./tasks.ts"

const prefixOf = (fleet: string): string => `${Work._tag}/${fleet}/`
const keyOf = (fleet: string, producer: number, n: number): string => `${prefixOf(fleet)}${producer}/${n}`

/** Counts ends by key, from now on. */
export const countEnds = Effect.fnUntraced(function*(fleet: string) {
  const ends = new Map<string, number>()
  const docket = yield* Docket.Docket
  const prefix = prefixOf(fleet)
  yield* docket.events.pipe(
    Stream.runForEach(({ event, key }) =>
      Effect.sync(() => {
        if (event._tag === "Finished" && key.startsWith(prefix)) ends.set(key, (ends.get(key) ?? 0) + 1)
      })
    ),
    Effect.forkScoped({ startImmediately: true })
  )
  return ends
})

/** What is known of the runs of a fleet in the end. */
export interface Proof {
  readonly added: number
  /** How many keys have a successful outcome. */
  readonly done: number
  /** How many keys have none. */
  readonly missing: number
  /** How many keys were settled more than once. */
  readonly twice: number
  /** How many were begun more than once, since their first worker had fallen silent. */
  readonly again: number
  readonly byWorker: ReadonlyMap<string, number>
}

/** Asks the docket for the outcome of every key. `added`: how many each producer says that it has added. */
export const prove = Effect.fnUntraced(function*(
  fleet: string,
  added: ReadonlyArray<number>,
  ends: ReadonlyMap<string, number>
) {
  const keys = new Set(
    added.flatMap((count, index) => Array.from({ length: count }, (_, n) => keyOf(fleet, index + 1, n)))
  )
  // a producer that was killed may have added what it could not tell any more
  for (const key of ends.keys()) keys.add(key)
  const byWorker = new Map<string, number>()
  let [done, again] = [0, 0]
  yield* Effect.forEach(keys, (key) =>
    Effect.gen(function*() {
      const run = Option.getOrUndefined(yield* Docket.get(Work, key))
      const exit = run && Option.getOrUndefined(yield* run.poll)
      if (exit === undefined || !Exit.isSuccess(exit)) return
      const { attempt, worker } = exit.value
      done++
      if (attempt > 1) again++
      byWorker.set(worker, (byWorker.get(worker) ?? 0) + 1)
    }), { concurrency: 200, discard: true })
  const twice = Array.from(ends.values()).filter((count) => count > 1).length
  return { added: keys.size, done, missing: keys.size - done, twice, again, byWorker } satisfies Proof
})
