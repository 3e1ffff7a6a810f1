/**
 * What a store tells those who listen, as the ledger sees it: each generation begins once and ends once.
 */
import type { Docket } from "@effect-docket/dsl"
import type { StoredEvent } from "../../DocketStore.ts"
import { type Generation, isHeld, nameOf, stateOf } from "./books.ts"
import * as expected from "./expected.ts"
import type { Ledger } from "./ledger.ts"

/** An event. */
export const event = (ledger: Ledger, { event, generation, key, task }: StoredEvent): void => {
  const due = "due" in event ? event.due : event.at
  const run = ledger.find({ key, generation }) ?? begins(ledger, { task, key, generation }, due)
  ledger.check(run.ended === undefined, () => `${event._tag} of ${key}#${generation}, but ${stateOf(run)}`)
  if (event._tag !== "Ready" && event._tag !== "Finished") return
  ledger.gathers.goesOn(run)
  if (event._tag === "Finished") ends(ledger, run, event.outcome, event.at)
  // the store took it back
  const { latest } = run
  if (latest === undefined || !isHeld(run)) return
  ledger.check(
    latest.until <= event.at,
    () => `${nameOf(latest)} was taken from ${latest.process}, which holds it until ${latest.until}`
  )
  ledger.lose(run, latest)
}

/** A generation that was written with a settlement is seen. */
const begins = (ledger: Ledger, run: Pick<Generation, "task" | "key" | "generation">, due: number): Generation => {
  const { generation, key } = run
  const before = ledger.current.get(key)
  const written = ledger.unseen.get(key)
  ledger.check(written !== undefined, () => `${key} has generation ${generation}, and nobody added it`)
  ledger.check(
    before === undefined || before.ended !== undefined || written?.isMember === true,
    () => `${key} has generation ${generation} beside ${before!.generation}`
  )
  if (before !== undefined) before.ended ??= "Replaced"
  ledger.unseen.delete(key)
  const unknown = { due, gates: undefined, payload: "", retention: { success: 0, failure: 0 }, thread: undefined }
  const begun = written ?? unknown
  ledger.check(due >= begun.due, () => `${key}#${generation} is due ${begun.due - due} ms too early`)
  return ledger.open(run, begun, due)
}

/** A generation ends: with what its claim said, if it was settled with an exit. */
const ends = (ledger: Ledger, run: Generation, outcome: Docket.EncodedOutcome, now: number): void => {
  const { generation, key, latest, parent } = run
  run.ended = outcome._tag
  run.outcome = outcome
  ledger.check(
    outcome._tag !== "Exit" || outcome.exit === latest?.exit,
    () => `${key}#${generation} ended with an exit that nobody has settled`
  )
  const waiting = parent && ledger.find(parent)
  // one that was replaced, or redriven, does not listen
  if (waiting !== undefined && ledger.current.get(waiting.key) === waiting && waiting.ended !== "Gone") {
    ledger.gathers.reported(waiting, parent!, outcome)
  }
  // what was cleared is not kept
  if (outcome._tag !== "Gone") expected.isKept(ledger, run, now)
}

/** Everything that was written has been seen. */
export const caughtUp = (ledger: Ledger): void => {
  for (const text of ledger.gathers.late()) ledger.violation(text)
}

/** Somebody who waited for a generation, or a later one, is told how it ended. */
export const awaited = (ledger: Ledger, key: string, generation: number, outcome: Docket.EncodedOutcome): void => {
  if (outcome._tag === "Gone") return
  const text = JSON.stringify(outcome)
  ledger.check(
    Array.from(ledger.generations.values()).some((run) =>
      run.key === key && run.generation >= generation && JSON.stringify(run.outcome) === text
    ),
    () => `who waits for ${key}#${generation} is told ${text}, and that is not how it ended`
  )
}
