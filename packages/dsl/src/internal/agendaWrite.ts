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
import type * as Task from "../Task.ts"
import { spread } from "./agenda.ts"
import { type AnyItem, type AnySlot, items, type Planned } from "./agendaBatch.ts"
import * as client from "./client.ts"
import type { EncodedAddition } from "./wire.ts"

/** A slot of any task that was not written. */
export type AnyFailed = Agenda.Failed<Task.Any>

/** A batch with keys and times. */
export interface Draft {
  /** When it was made. */
  readonly now: number
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
  const times = spread(all.length, options, now, yield* Random.Random)
  if (Result.isFailure(times)) return yield* new DocketError({ operation, reason: times.failure })
  // generated keys ascend per docket; here per plan, so that the same seed gives the same keys
  const docket = {}
  const planned: Array<Planned> = []
  const invalid: Array<AnyFailed> = []
  const duplicates: Array<AnyFailed> = []
  const keys = new Set<string>()
  for (const [index, item] of all.entries()) {
    const { key, payload, task } = item
    const at = times.success[index]!
    const encoded = yield* Effect.result(client.encode(operation, { docket, task }, task, payload, { key, at }))
    if (Result.isFailure(encoded)) {
      invalid.push({ slot: slotOf(index, item, key ?? "", at), reason: encoded.failure.reason })
      continue
    }
    const addition = encoded.success
    const slot = slotOf(index, item, addition.key, at)
    planned.push({ item: { task, payload, key: addition.key }, slot, addition })
    if (keys.has(addition.key)) duplicates.push({ slot, reason: new KeyExists({ key: addition.key }) })
    else keys.add(addition.key)
  }
  return { now, planned, invalid, duplicates }
})

/** What became of each slot. */
export interface Written {
  readonly scheduled: ReadonlyArray<AnySlot>
  readonly existing: ReadonlyArray<AnySlot>
  readonly struck: ReadonlyArray<AnySlot>
  readonly failed: ReadonlyArray<AnyFailed>
  /** The entries of `failed`. */
  readonly rest: ReadonlyArray<Planned>
}

/**
 * Items per write of a loose scatter. Large enough that a round trip is shared by many (a hundred thousand items take two
 * hundred calls), small enough that a store is not blocked for long and that a failure leaves little in doubt.
 */
export const chunkSize = 500

/** Whether the items that follow would fail as well. The other reasons are about what was written, or pass by. */
const stops = (reason: Reason): boolean =>
  reason._tag === "StoreUnavailable" || reason._tag === "IncompatibleStore" || reason._tag === "Unsupported"

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
 * Writes a plan, `size` items at a time; what is due by `now` is due at once by the clock of the store. Nothing of it is
 * lost: every item is in one of the lists.
 */
export const write = Effect.fnUntraced(function*(
  agenda: Docket.Docket["Service"],
  planned: ReadonlyArray<Planned>,
  options: { readonly atomic: boolean; readonly size: number; readonly now: number }
): Effect.fn.Return<Written> {
  const { docket, grant } = yield* grants(agenda, planned)
  const isPast = ({ slot }: Planned) => DateTime.toEpochMillis(slot.at) <= options.now
  const present = DateTime.makeUnsafe(options.now)
  const scheduled: Array<AnySlot> = []
  const existing: Array<AnySlot> = []
  const struck: Array<AnySlot> = []
  const failed: Array<AnyFailed> = []
  const rest: Array<Planned> = []
  // the first of two items with one key may have run before the second is written; it is `existing` all the same
  const taken = new Set<string>()
  let stopped: Reason | undefined
  for (let from = 0; from < planned.length; from += options.size) {
    const chunk = planned.slice(from, from + options.size)
    const fresh = stopped === undefined ? chunk.filter(({ slot }) => !taken.has(slot.key)) : []
    const additions = fresh.map((one) => isPast(one) ? { ...grant(one), due: { after: 0 } } : grant(one))
    const added = additions.length === 0
      ? Result.succeed([])
      : yield* Effect.result(docket.addEncoded(additions, { atomic: options.atomic }))
    const reason = stopped ?? (Result.isFailure(added) ? added.failure.reason : undefined)
    if (reason !== undefined && stops(reason)) stopped = reason
    const dispositions = Result.isSuccess(added) ? added.success : []
    const sent = new Map(fresh.map((one, index) => [one, dispositions[index]?.disposition]))
    for (const one of chunk) {
      const slot = isPast(one) ? { ...one.slot, at: present } : one.slot
      const disposition = sent.get(one) ?? (taken.has(slot.key) ? "Existing" : undefined)
      if (disposition === undefined) {
        failed.push({ slot: one.slot, reason: reason! }) // a docket answers every addition, or fails
        rest.push(one)
      } else if (disposition === "Struck") struck.push(slot)
      else {
        taken.add(slot.key)
        if (disposition === "Existing") existing.push(slot)
        else scheduled.push(slot)
      }
    }
  }
  return { scheduled, existing, struck, failed, rest }
})
