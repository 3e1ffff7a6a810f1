/**
 * The errors of an agenda. Their messages say how many items, the first few reasons, and what to do next.
 */
import * as Data from "effect/Data"
import type * as Agenda from "../Agenda.ts"
import type * as Task from "../Task.ts"

type AnyFailed = ReadonlyArray<Agenda.Failed<Task.Any>>

/** How many reasons a message spells out; a batch may have thousands. */
const shown = 3

const items = (count: number): string => count === 1 ? "1 item" : `${count} items`

const name = ({ index, key, task }: Agenda.Slot<Task.Any>): string =>
  `item ${index} (${task}, ${key === "" ? "no key" : `key ${JSON.stringify(key)}`})`

const list = (failed: AnyFailed): string => {
  // a store that fails gives all items of a write one and the same reason
  const byReason = Map.groupBy(failed, ({ reason }) => reason)
  const lines: Array<string> = []
  let left = failed.length
  for (const [reason, same] of byReason) {
    if (lines.length === shown) break
    left -= same.length
    const others = same.length === 1 ? "" : ` and ${same.length - 1} more`
    lines.push(`\n  ${name(same[0]!.slot)}${others}: ${reason.message}`)
  }
  return lines.join("") + (left === 0 ? "" : `\n  and ${left} more`)
}

const partialMessage = ({ existing, failed, limited, rest, scheduled, struck }: ScatterPartial<Task.Any>): string => {
  const next = rest.length === 0
    ? "repeating it does not help"
    : `\`Agenda.resume(error.rest)\` writes ${rest.length} of them at the same times under the same keys`
  const ignored = limited.length === 0 ? "" : `, ${limited.length} limited`
  const others = `${scheduled.length} scheduled, ${existing.length} existing, ${struck.length} struck${ignored}`
  return `${items(failed.length)} not scheduled (${others}); ${next}:${list(failed)}`
}

const rejectedMessage = ({ rejected }: ScatterRejected<Task.Any>): string => {
  const outcome = rejected.some(({ reason }) => reason._tag === "StoreUnavailable")
    ? "the store did not confirm the batch; writing the same plan again is safe, for"
    : "nothing was scheduled, because of"
  return `${outcome} ${items(rejected.length)}:${list(rejected)}`
}

/**
 * A part of the batch was not scheduled. `failed` says what and why; `rest` holds what a repetition can still schedule
 * (everything but what does not encode), with the same keys and times: `Agenda.resume(error.rest)`.
 *
 * Once the store is unavailable, what follows is not tried: it is in `failed`, with the reason of the store.
 *
 * @category errors
 * @since 0.1.0
 */
export class ScatterPartial<out T extends Task.Any> extends Data.TaggedError("ScatterPartial")<{
  readonly scheduled: ReadonlyArray<Agenda.Slot<Task.Any>>
  readonly existing: ReadonlyArray<Agenda.Slot<Task.Any>>
  readonly struck: ReadonlyArray<Agenda.Slot<Task.Any>>
  readonly limited: ReadonlyArray<Agenda.Slot<Task.Any>>
  readonly failed: ReadonlyArray<Agenda.Failed<Task.Any>>
  readonly rest: Agenda.Plan<Task.Any>
}> {
  declare readonly scheduled: ReadonlyArray<Agenda.Slot<T>>
  declare readonly existing: ReadonlyArray<Agenda.Slot<T>>
  declare readonly struck: ReadonlyArray<Agenda.Slot<T>>
  declare readonly limited: ReadonlyArray<Agenda.Slot<T>>
  declare readonly failed: ReadonlyArray<Agenda.Failed<T>>
  declare readonly rest: Agenda.Plan<T>

  override get message(): string {
    return partialMessage(this)
  }
}

/**
 * Nothing was scheduled; `rejected` names every slot that stands in the way: those that do not encode (with the reason
 * of a `Docket.add`), those with the key of an earlier one (`KeyExists`), those that are struck (`Struck`) or come within a
 * cooldown (`Limited`), those beyond the 1,000 of an atomic write (`LimitExceeded`), or all of them when the store refuses
 * or cannot be reached.
 *
 * @category errors
 * @since 0.1.0
 */
export class ScatterRejected<out T extends Task.Any> extends Data.TaggedError("ScatterRejected")<{
  readonly rejected: ReadonlyArray<Agenda.Failed<Task.Any>>
}> {
  declare readonly rejected: ReadonlyArray<Agenda.Failed<T>>

  override get message(): string {
    return rejectedMessage(this)
  }
}
