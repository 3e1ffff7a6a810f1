/**
 * Arbitrary texts and values from one seed: bytes that nobody wrote, and almost what somebody wrote.
 */
import { Effect, Random } from "effect"

/** Draws from one seed. */
export interface Chaos {
  /** An integer from 0, below `n`. */
  readonly int: (n: number) => number
  readonly pick: <A>(list: ReadonlyArray<A>) => A
  /** Any text: control characters, halves of surrogate pairs, what means something somewhere. */
  readonly text: () => string
  /** A text that can be a name: not empty, and well-formed. */
  readonly name: () => string
  /** A JSON text, mostly. */
  readonly json: () => string
  /** A text with a few changes. */
  readonly mutated: (text: string) => string
  /** A number that may make no sense. */
  readonly number: () => number
}

// what means something to JSON, to Lua patterns and formats, to Redis, to keys, to logs
const fragments = [
  "{",
  "}",
  "[",
  "]",
  ":",
  ",",
  "\"",
  "\\",
  "\0",
  "\n",
  "\r\n",
  "\t",
  "\u2028",
  "\ud800",
  "\udfff",
  "😀",
  "é",
  "%",
  "%s",
  "%%d",
  "*",
  "$-1",
  "+OK",
  "null",
  "true",
  "-0",
  "1e999",
  "NaN",
  "__proto__",
  "constructor",
  "toString",
  "{\"_tag\":\"Success\",\"value\":1}",
  "{\"_tag\":\"Failure\",\"cause\":[]}",
  "'; return redis.call('FLUSHALL') --",
  "${1}",
  "../",
  "/",
  "\u001b[31m",
  "a",
  "Z",
  "0",
  " "
]

const values = [null, true, false, 0, -1, 1.5, 1e300, "", "x", "2020-01-01T00:00:00.000Z"]

/** Draws from a seed. */
export const make = (seed: string | number): Effect.Effect<Chaos> =>
  Effect.map(Random.withSeed(Random.Random, seed), (random) => {
    const int = (n: number): number => Math.floor(random.nextDoubleUnsafe() * n)
    const pick = <A>(list: ReadonlyArray<A>): A => list[int(list.length)]!
    const character = () => int(2) === 0 ? pick(fragments) : String.fromCharCode(int(int(4) === 0 ? 0x10000 : 0x100))
    const text = () => Array.from({ length: int(int(10) === 0 ? 200 : 12) }, character).join("")
    const value = (depth: number): unknown => {
      switch (depth > 4 ? 0 : int(5)) {
        case 1:
          return Array.from({ length: int(4) }, () => value(depth + 1))
        case 2:
          return Object.fromEntries(
            Array.from(
              { length: int(4) },
              () => [pick(["n", "at", "_tag", "x", "__proto__", text()]), value(depth + 1)]
            )
          )
        default:
          return int(3) === 0 ? text() : pick(values)
      }
    }
    const mutated = (text: string): string => {
      let result = text
      for (let n = int(3) + 1; n > 0; n--) {
        const at = int(result.length + 1)
        const until = Math.min(result.length, at + int(3))
        result = result.slice(0, at) + (int(2) === 0 ? "" : character()) + result.slice(until)
      }
      return result
    }
    return {
      int,
      pick,
      text,
      name: () => text().toWellFormed() || "n",
      mutated,
      json: () => int(4) === 0 ? mutated(JSON.stringify(value(0))) : JSON.stringify(value(0)),
      number: () => pick([0, 1, -1, 2, 1.5, Number.NaN, Infinity, -Infinity, 2 ** 31, 2 ** 53, -(2 ** 53), 1e308])
    }
  })

/** How many cases a test of arbitrary input goes through, and from which seed: `FUZZ_CASES=5000 FUZZ_SEED=7 npm test`. */
export const cases = Number(process.env["FUZZ_CASES"] ?? 200)
/** The seed of the first case. */
export const seed = Number(process.env["FUZZ_SEED"] ?? 1)
