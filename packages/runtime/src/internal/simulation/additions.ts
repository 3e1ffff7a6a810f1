/**
 * What producers and operators ask for, as the ledger sees it: additions and their dispositions, and cancels.
 */
import type { Docket } from "@effect-docket/dsl"
import { type Generation, stateOf, type Unseen } from "./books.ts"
import * as expected from "./expected.ts"
import { dueOf, type Ledger } from "./ledger.ts"

/** What an addition says of the generation that it becomes. */
export const toOpen = (
  { gates, payload, retention, thread }: Docket.EncodedAddition,
  due: number,
  isMember: boolean
): Unseen => ({ isMember, due, gates, payload, retention, thread })

/** Additions were answered. */
export const added = (
  ledger: Ledger,
  additions: ReadonlyArray<Docket.EncodedAddition>,
  answers: ReadonlyArray<Docket.EncodedAdded>,
  now: number
): void => {
  for (const [index, addition] of additions.entries()) addedOne(ledger, addition, answers[index]!, now)
}

const addedOne = (
  ledger: Ledger,
  addition: Docket.EncodedAddition,
  answer: Docket.EncodedAdded,
  now: number
): void => {
  const { key, onExisting, task, thread } = addition
  const { disposition, generation } = answer
  const parent = thread?.parent
  if (parent !== undefined && onExisting === "replace") ledger.gathers.again(parent)
  // a member whose gather has heard of it already, or one that a gate may hold
  if ((parent !== undefined && generation === 0) || ledger.unseen.get(key)?.isMember === true) return
  if (disposition === "Limited") {
    return ledger.check(
      ledger.gates.isCooling(addition.gates?.cooldown, now),
      () => `${key} was refused although nothing cools`
    )
  }
  if (disposition === "Struck") {
    return ledger.check(
      ledger.measures.isStruck(task, addition.payload, now) !== false,
      () => `${key} was refused although nothing strikes it`
    )
  }
  if (answer.key !== undefined) return joined(ledger, addition, answer, answer.key, now)
  if (disposition === "Existing") return found(ledger, addition, generation)
  accepted(ledger, addition, answer, now)
}

/** An addition joins a run that settles. */
const joined = (
  ledger: Ledger,
  { due: when, gates, key, payload, retention }: Docket.EncodedAddition,
  { disposition, due, generation }: Docket.EncodedAdded,
  other: string,
  now: number
): void => {
  const run = ledger.current.get(other)
  if (run === undefined || run.generation !== generation || run.ended !== undefined) {
    return ledger.violation(`${key} joined ${other}, generation ${generation}, which is not pending`)
  }
  const asked = dueOf(when, now)
  ledger.check(
    due >= asked || run.notBefore <= now,
    () => `${key} joined ${other}, and that is due ${asked - due} ms too early`
  )
  const latest = Math.max(asked, run.latestDue, run.notBefore)
  ledger.check(due <= latest, () => `${key} joined ${other}, and that is due ${due - latest} ms too late`)
  run.due = due
  run.notBefore = due
  expected.waits(ledger, run)
  if (disposition === "Replaced") Object.assign(run, { gates, payload, retention })
}

/** There is a run already. */
const found = (
  ledger: Ledger,
  { key, onExisting, redrive }: Docket.EncodedAddition,
  generation: number
): void => {
  // what it would redrive was forgotten, or a successor that a gate may hold is there
  if ((redrive !== undefined && generation === 0) || ledger.unseen.has(key)) return
  const known = ledger.current.get(key)
  ledger.check(
    known?.generation === generation && (redrive !== undefined || known.ended === undefined),
    () => `${key} found generation ${generation}, but ${stateOf(known)}`
  )
  ledger.check(onExisting !== "fail", () => `${key} was to be refused, because ${stateOf(known)}`)
}

/** A generation begins, after one that has ended, or in place of one that has not. */
const accepted = (
  ledger: Ledger,
  addition: Docket.EncodedAddition,
  { disposition, due, generation }: Docket.EncodedAdded,
  now: number
): void => {
  const { gates, key, redrive, task } = addition
  const asked = dueOf(addition.due, now)
  ledger.check(due >= asked, () => `${key} is due ${asked - due} ms too early`)
  const known = ledger.current.get(key)
  // a successor that nobody has seen is replaced
  const isPending = ledger.unseen.delete(key) || (known !== undefined && known.ended === undefined)
  ledger.check(
    isPending === (disposition === "Replaced"),
    () => `${key} was ${disposition}, but ${stateOf(known)}`
  )
  ledger.check(
    redrive === undefined || known?.generation === redrive,
    () => `${key} is a redrive of generation ${redrive}, but ${stateOf(known)}`
  )
  if (known !== undefined) known.ended ??= "Replaced"
  if (redrive === undefined) {
    ledger.additions.set(key, addition)
    const problem = ledger.gates.added(gates, due, now)
    if (problem !== undefined) ledger.violation(`${key}: ${problem}`)
  }
  const begins = toOpen(addition, due, false)
  // a part of a flow is kept as long as before
  const retention = redrive !== undefined && addition.thread !== undefined ? known?.retention : undefined
  const latestDue = now + (gates?.debounce?.max ?? Infinity)
  const run = ledger.open(
    { task, key, generation },
    retention === undefined ? begins : { ...begins, retention },
    due,
    latestDue
  )
  if (redrive === undefined) settles(ledger, run, disposition)
  else ledger.gathers.carry(key, redrive, generation)
}

/** Additions about the same join it from now on. It would have joined one itself. */
const settles = (ledger: Ledger, run: Generation, disposition: string): void => {
  const about = run.gates?.debounce?.about
  if (about === undefined) return
  const joinable = disposition === "Added" ? ledger.settling.get(about) : undefined
  ledger.check(
    joinable === undefined || joinable.ended !== undefined || joinable.latest !== undefined,
    () => `${run.key} did not join ${joinable!.key}, which settles`
  )
  ledger.settling.set(about, run)
}

/** A cancel was answered: whether there was something to cancel. */
export const cancelled = (
  ledger: Ledger,
  key: string,
  of: Docket.EncodedFlow | undefined,
  answer: boolean
): void => {
  // a gate may hold it from the beginning, and nobody is told that it is there
  if (ledger.unseen.has(key)) return
  const known = ledger.current.get(key)
  const isIts = of === undefined ||
    (known?.parent?.key === of.key && known.parent.generation === of.generation)
  const isOpen = known !== undefined && known.ended === undefined && isIts
  ledger.check(isOpen === answer, () => `cancelling ${key} was answered with ${answer}, but ${stateOf(known)}`)
  if (known !== undefined && answer && known.onCancel !== "ignore") known.cancelling = true
}
