/**
 * From a batch to the store: `draft` encodes every item and fixes its key and time, `write` hands the result to a docket.
 *
 * What was planned is what is written: the text of each payload is made once, by `draft`. Only the options that a group
 * gives to its tasks are added by `write`, because a plan does not know who will be allowed to write it.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Result from "effect/Result"
import type * as Agenda from "../Agenda.ts"
import type * as Docket from "../Docket.ts"
import { DocketError, InvalidOption, KeyExists, type Reason } from "../DocketError.ts"
import type * as Execution from "../Execution.ts"
import type * as Task from "../Task.ts"
import { type Spread, spread } from "./agenda.ts"
import { type AnyItem, type AnySlot, items, type Planned } from "./agendaBatch.ts"
import * as client from "./client.ts"
import { resolved } from "./options.ts"
import { reasonOf } from "./refusal.ts"
import type { EncodedAddition, EncodedRefusal, EncodedRun } from "./wire.ts"

/** A slot of any task that was not written. */
export type AnyFailed = Agenda.Failed<Task.Any>

/** A batch with keys and times. */
export interface Draft {
  /** When it was made. */
  readonly now: number
  readonly period: Spread["period"]
  /** What encodes, items with a key of an earlier one among them. */
  readonly planned: ReadonlyArray<Planned>
  /** What does not encode. Its key is empty if it is not known. */
  readonly invalid: ReadonlyArray<AnyFailed>
  /** Items of `planned` with a key of an earlier one. */
  readonly duplicates: ReadonlyArray<AnyFailed>
}

const slotOf = (index: number, item: AnyItem, key: string, at: number): AnySlot => ({
  index,
  task: item.task._tag,
  payload: item.payload,
  key,
  at: DateTime.makeUnsafe(at)
})

/** Encodes a batch. Reads `Clock` and `Random` and nothing else; fails with reason `InvalidOption`. */
export const draft = Effect.fnUntraced(function*(
  operation: string,
  batch: Agenda.Batch<Task.Any>,
  options: Agenda.PlanOptions
): Effect.fn.Return<Draft, DocketError> {
  const all = items(batch)
  const now = yield* Clock.currentTimeMillis
  const spreading = spread(all.length, options, now, yield* Random.Random)
  if (Result.isFailure(spreading)) return yield* new DocketError({ operation, reason: spreading.failure })
  const { period, times } = spreading.success
  // generated keys ascend per docket; here per plan, and all of its time, so that the same seed gives the same keys, and what
  // follows it the same numbers, however long this takes
  const adder = { docket: {}, madeAt: now }
  const planned: Array<Planned> = []
  const invalid: Array<AnyFailed> = []
  const duplicates: Array<AnyFailed> = []
  const keys = new Set<string>()
  for (const [index, item] of all.entries()) {
    const { key, payload, task } = item
    const at = times[index]!
    const encoded = yield* Effect.result(client.encode(operation, { ...adder, task }, task, payload, { key, at }))
    if (Result.isFailure(encoded)) {
      invalid.push({ slot: slotOf(index, item, key ?? "", at), reason: encoded.failure.reason })
      continue
    }
    const addition = encoded.success
    const slot = slotOf(index, item, addition.key, at)
    const isUnique = key === undefined && resolved(task).key === undefined
    planned.push({ item: { task, payload, key: addition.key }, slot, addition, isUnique })
    if (keys.has(addition.key)) duplicates.push({ slot, reason: new KeyExists({ key: addition.key }) })
    else keys.add(addition.key)
  }
  return { now, period, planned, invalid, duplicates }
})

/** What became of each slot. */
export interface Written {
  readonly scheduled: ReadonlyArray<AnySlot>
  readonly existing: ReadonlyArray<AnySlot>
  readonly struck: ReadonlyArray<AnySlot>
  readonly limited: ReadonlyArray<AnySlot>
  readonly failed: ReadonlyArray<AnyFailed>
  /** The entries of `failed`. */
  readonly rest: ReadonlyArray<Planned>
}

/**
 * Items per write of a loose scatter. Large enough that a round trip is shared by many (a hundred thousand items take four
 * hundred calls), small enough that a store is not blocked for long and that a failure leaves little in doubt. Measured on
 * Redis: 250 block it for 1.5 ms (3.7 at most), 500 for twice as long, and are 5 % faster in all.
 */
export const chunkSize = 250

const none: ReadonlyMap<Planned, Execution.Disposition> = new Map()

/** Whether the items that follow would fail as well. The other reasons are about what was written, or pass by. */
const stops = (reason: Reason): boolean => reason._tag === "StoreUnavailable" || reason._tag === "IncompatibleStore"

const isRefusal = (reason: Reason): reason is Extract<Reason, { readonly _tag: "Struck" | "Limited" }> =>
  reason._tag === "Struck" || reason._tag === "Limited"

const ended: ReadonlySet<Execution.State> = new Set<Execution.State>(["Completed", "Failed", "Cancelled", "Skipped"])

/**
 * Whether an item in doubt was written, and has ended since. Its key is free then, and another addition would be another
 * run. A key that others use as well says so only together with the time and the payload.
 */
const hasRun = ({ addition, isUnique, slot }: Planned, run: EncodedRun | undefined): boolean =>
  run !== undefined && ended.has(run.state) &&
  (isUnique || (run.due === DateTime.toEpochMillis(slot.at) && run.payload === addition.payload))

/** Lookups at once; they are one round trip each, and one command or two. */
const lookups = 50

/** How to write the items of a plan: through the permissions in scope, else with the options of the tasks. */
const grants = Effect.fnUntraced(function*(docket: Docket.Docket["Service"], planned: ReadonlyArray<Planned>) {
  const fiber = yield* Effect.withFiber(Effect.succeed)
  const context = yield* Effect.context<never>()
  const clients = new Map<string, client.Client | undefined>()
  for (const { slot } of planned) {
    if (clients.has(slot.task)) continue
    clients.set(slot.task, Context.getOrUndefined(context, client.key(slot.task)))
  }
  const dockets = new Set(Array.from(clients.values(), (granted) => granted?.docket ?? docket))
  if (dockets.size > 1) {
    const names = Array.from(dockets, ({ name }) => JSON.stringify(name)).join(" and ")
    return yield* Effect.die(
      new DocketError({
        operation: "Agenda.write",
        reason: new InvalidOption({
          option: "client",
          message: `the tasks of one plan are granted by different dockets: ${names}`
        })
      })
    )
  }
  const [target = docket] = dockets
  const grant = ({ addition, item, slot }: Planned): EncodedAddition => {
    const granted = clients.get(slot.task)
    return granted === undefined ? addition : client.grant(granted, item.task, addition, fiber)
  }
  return { docket: target, grant }
})

/**
 * Items asked about at once, before the first is written: few calls for a large batch, none of them long. A store in memory
 * answers for so many in a millisecond or two.
 */
const asked = 5000

/** What would refuse items of a plan, by a strike or a cooldown. Nothing is written. */
const refusals = Effect.fnUntraced(function*(
  docket: Docket.Docket["Service"],
  planned: ReadonlyArray<Planned>,
  grant: (one: Planned) => EncodedAddition
): Effect.fn.Return<ReadonlyMap<Planned, EncodedRefusal>, DocketError> {
  const found = new Map<Planned, EncodedRefusal>()
  for (let from = 0; from < planned.length; from += asked) {
    if (from > 0) yield* Effect.yieldNow
    const chunk = planned.slice(from, from + asked)
    const answers = yield* docket.refused(chunk.map(grant))
    chunk.forEach((one, index) => {
      const refusal = answers[index]
      if (refusal !== undefined) found.set(one, refusal)
    })
  }
  return found
})

/** Nothing was written: which items stand in the way, and why. */
const nothing = (failed: ReadonlyArray<AnyFailed>, rest: ReadonlyArray<Planned> = []): Written => ({
  scheduled: [],
  existing: [],
  struck: [],
  limited: [],
  failed,
  rest
})

/**
 * Writes a plan, `size` items at a time; what is due by `now` is due at once by the clock of the store. Nothing of it is
 * lost: every item is in one of the lists. Items in doubt are looked up first.
 *
 * What a strike or a cooldown refuses is known before anything is written: an atomic plan is not written then, of others
 * such items are left out. One that is struck in between is refused by the store.
 */
export const write = Effect.fnUntraced(function*(
  agenda: Docket.Docket["Service"],
  planned: ReadonlyArray<Planned>,
  options: { readonly atomic: boolean; readonly size: number; readonly now: number }
): Effect.fn.Return<Written> {
  const { docket, grant } = yield* grants(agenda, planned)
  const isPast = ({ slot }: Planned) => DateTime.toEpochMillis(slot.at) <= options.now
  const present = DateTime.makeUnsafe(options.now)
  const writing = { atomic: options.atomic, onRefused: options.atomic ? "fail" as const : undefined }
  const send = Effect.fnUntraced(function*(
    chunk: ReadonlyArray<Planned>
  ): Effect.fn.Return<ReadonlyMap<Planned, Execution.Disposition>, DocketError> {
    const doubtful = chunk.filter((one) => one.inDoubt)
    const runs = yield* Effect.forEach(doubtful, ({ slot }) => docket.get(slot.key), { concurrency: lookups })
    const answers = new Map<Planned, Execution.Disposition>()
    doubtful.forEach((one, index) => hasRun(one, runs[index]) && answers.set(one, "Existing"))
    const left = chunk.filter((one) => !answers.has(one))
    if (left.length === 0) return answers
    const additions = left.map((one) => isPast(one) ? { ...grant(one), due: { after: 0 } } : grant(one))
    const added = yield* docket.addEncoded(additions, writing)
    left.forEach((one, index) => answers.set(one, added[index]!.disposition)) // a docket answers every addition, or fails
    return answers
  })
  // those in doubt may have run, whatever is struck by now
  const asking = yield* Effect.result(refusals(docket, planned.filter(({ inDoubt }) => inDoubt !== true), grant))
  if (Result.isFailure(asking)) {
    const { reason } = asking.failure
    return nothing(planned.map(({ slot }) => ({ slot, reason })), planned)
  }
  const refused = asking.success
  if (options.atomic && refused.size > 0) {
    return nothing(Array.from(refused, ([{ slot }, refusal]) => ({ slot, reason: reasonOf(slot.key, refusal) })))
  }
  const scheduled: Array<AnySlot> = []
  const existing: Array<AnySlot> = []
  const struck: Array<AnySlot> = []
  const limited: Array<AnySlot> = []
  const failed: Array<AnyFailed> = []
  const rest: Array<Planned> = []
  // the first of two items with one key may have run before the second is written; it is `existing` all the same
  const taken = new Set<string>()
  let stopped: Reason | undefined
  for (let from = 0; from < planned.length; from += options.size) {
    if (from > 0) yield* Effect.yieldNow // a store in memory answers at once, and others want to run as well
    const chunk = planned.slice(from, from + options.size)
    const fresh = stopped === undefined ? chunk.filter((one) => !taken.has(one.slot.key) && !refused.has(one)) : []
    const sent = yield* Effect.result(send(fresh))
    const reason = stopped ?? (Result.isFailure(sent) ? sent.failure.reason : undefined)
    if (reason !== undefined && stops(reason)) stopped = reason
    const answers = Result.isSuccess(sent) ? sent.success : none
    for (const one of chunk) {
      const slot = isPast(one) ? { ...one.slot, at: present } : one.slot
      const disposition = answers.get(one) ??
        (taken.has(slot.key) ? "Existing" : refused.get(one)?._tag)
      if (disposition === undefined) {
        // struck since it was asked about: the others do not stand in the way
        if (isRefusal(reason!) && slot.key !== reason.key) continue
        failed.push({ slot: one.slot, reason: reason! }) // what was sent has an answer
        rest.push(reason!._tag === "StoreUnavailable" && fresh.includes(one) ? { ...one, inDoubt: true } : one)
      } else if (disposition === "Struck") struck.push(slot)
      else if (disposition === "Limited") limited.push(slot)
      else {
        taken.add(slot.key)
        if (disposition === "Existing") existing.push(slot)
        else scheduled.push(slot)
      }
    }
  }
  return { scheduled, existing, struck, limited, failed, rest }
})
