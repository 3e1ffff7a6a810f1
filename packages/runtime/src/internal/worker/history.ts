/**
 * The failures of a run, as they travel with it from attempt to attempt: when each happened, and with what error.
 *
 * The text of an error is kept once, however often it came back, and at most `maxTexts` different ones are kept: a run
 * that is retried for days stays small. A schedule sees every failure and every time; only the text of a failure long
 * ago may be that of a later one.
 */
import * as Interpreter from "@effect-docket/dsl/Interpreter"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Result from "effect/Result"

const maxTexts = 32

/** The stored form: exits as JSON text, and times in milliseconds of the epoch, each with the index of its text. */
interface History {
  readonly texts: ReadonlyArray<string>
  readonly failures: ReadonlyArray<readonly [at: number, text: number]>
  readonly begun?: Begun | undefined
}

/** When a run was due and when it began, before it was first retried: what a perpetual task counts from. */
export interface Begun {
  readonly due: number
  readonly startedAt: number
}

/** A failure of the past, decoded. */
export interface Failure {
  readonly at: number
  readonly error: unknown
}

const none: History = { texts: [], failures: [] }

// written by `append`; what it did not write is a history that nobody can read, and the schedule begins anew
const parse = (stored: string): History => Result.getOrElse(Result.try(() => JSON.parse(stored) as History), () => none)

/** The history with one more failure; `begun` is kept of the first. */
export const append = (stored: string | undefined, at: number, exit: string, begun?: Begun): string => {
  const { begun: first, failures, texts } = stored === undefined ? none : parse(stored)
  const known = texts.indexOf(exit)
  const text = known !== -1 ? known : texts.length < maxTexts ? texts.length : failures.length % maxTexts
  return JSON.stringify(
    {
      texts: known !== -1 ? texts : text === texts.length ? [...texts, exit] : texts.with(text, exit),
      failures: [...failures, [at, text]],
      begun: first ?? begun
    } satisfies History
  )
}

/** When the run began, if its history says so. */
export const begun = (stored: string | undefined): Begun | undefined =>
  stored === undefined ? undefined : parse(stored).begun

/** The failures of a history, oldest first. One whose error does not decode (any more) is left out. */
export const read = (
  codec: Interpreter.Codec,
  stored: string | undefined
): Effect.Effect<ReadonlyArray<Failure>> => {
  if (stored === undefined) return Effect.succeed([])
  const { failures, texts } = parse(stored)
  return Effect.map(
    Effect.forEach(texts, (text) => Effect.option(codec.decodeExit(text))),
    (exits) =>
      failures.flatMap(([at, text]): ReadonlyArray<Failure> => {
        const exit = Option.getOrUndefined(exits[text] ?? Option.none())
        return exit !== undefined && Exit.isFailure(exit) ? [{ at, error: Interpreter.errorOf(exit) }] : []
      })
  )
}
