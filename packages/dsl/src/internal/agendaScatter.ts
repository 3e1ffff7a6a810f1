/**
 * Which outcome of a draft or of a write is an error, all or nothing or as much as possible.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type * as Agenda from "../Agenda.ts"
import type * as Docket from "../Docket.ts"
import * as DocketError from "../DocketError.ts"
import type * as Task from "../Task.ts"
import { fromPlanned, type Origin, origin, planned } from "./agendaBatch.ts"
import { ScatterPartial, ScatterRejected } from "./agendaErrors.ts"
import { type AnyFailed, chunkSize, type Draft, draft, write } from "./agendaWrite.ts"

/** A plan, a report, an error of each type: see `agendaBatch.ts`. */
type Plan = Agenda.Plan<never>
type Report = Agenda.ScatterReport<never>
type Partial = ScatterPartial<never>
type Rejected = ScatterRejected<never>

/** Most items of an atomic write: a store does it in one go, and serves nobody else meanwhile. */
const maxAtomic = 1000

const limited = new DocketError.LimitExceeded({ limit: maxAtomic, option: "the items of an atomic scatter" })

/** The agenda of a docket. */
export const make = (docket: Docket.Docket["Service"]): Agenda.Agenda["Service"] => ({
  write: Effect.fnUntraced(function*(plan: Agenda.Plan<Task.Any>, { atomic }: { readonly atomic: boolean }) {
    if (atomic && plan.length > maxAtomic) {
      const rejected = plan.slots.slice(maxAtomic).map((slot) => ({ slot, reason: limited }))
      return yield* new ScatterRejected<never>({ rejected })
    }
    const size = atomic ? maxAtomic : chunkSize
    const { period, ...made } = origin(plan)
    const now = made.now ?? (yield* Clock.currentTimeMillis)
    const { failed, rest, ...report } = yield* write(docket, planned(plan), { atomic, size, now })
    if (failed.length === 0) return report as Report // the slots of the plan
    return yield* atomic
      ? new ScatterRejected<never>({ rejected: failed })
      : new ScatterPartial<never>({ ...report, failed, rest: fromPlanned(rest, { period }) })
  })
})

const inOrder = (failed: ReadonlyArray<AnyFailed>): ReadonlyArray<AnyFailed> =>
  failed.toSorted((a, b) => a.slot.index - b.slot.index)

/** The plan of a draft in which nothing is wrong. */
export const strict = (
  { duplicates, invalid, period, planned }: Draft,
  now?: Origin["now"]
): Effect.Effect<Plan, Rejected> =>
  invalid.length + duplicates.length === 0
    ? Effect.succeed(fromPlanned(planned, { now, period }))
    : Effect.fail(new ScatterRejected<never>({ rejected: inOrder([...invalid, ...duplicates]) }))

/** Writes everything or nothing. */
const atomically = (agenda: Agenda.Agenda["Service"], draft: Draft): Effect.Effect<Report, Rejected> =>
  Effect.flatMap(strict(draft, draft.now), (plan) => agenda.write(plan, { atomic: true })).pipe(
    Effect.catchTag("ScatterPartial", Effect.die) // an `Agenda` that does not keep to its description
  )

/** Writes as much of a plan as possible. */
export const resume = (agenda: Agenda.Agenda["Service"], plan: Plan): Effect.Effect<Report, Partial> =>
  agenda.write(plan, { atomic: false }).pipe(
    Effect.catchTag("ScatterRejected", Effect.die) // an `Agenda` that does not keep to its description
  )

/** Writes what encodes; what does not has failed in its place. */
const loosely = Effect.fnUntraced(function*(
  agenda: Agenda.Agenda["Service"],
  { invalid, now, period, planned }: Draft
): Effect.fn.Return<Report, Partial> {
  const written = yield* Effect.result(resume(agenda, fromPlanned(planned, { now, period })))
  if (invalid.length === 0) return yield* Effect.fromResult(written)
  const { existing, limited, scheduled, struck } = Result.merge(written)
  const { failed, rest } = Result.isFailure(written) ? written.failure : { failed: [], rest: fromPlanned([]) }
  return yield* new ScatterPartial<never>({
    scheduled,
    existing,
    struck,
    limited,
    failed: inOrder([...invalid, ...failed]),
    rest
  })
})

/** Plans and writes. */
export const scatter = (
  agenda: Agenda.Agenda["Service"],
  batch: Agenda.Batch<Task.Any>,
  options: Agenda.ScatterOptions<boolean>
): Effect.Effect<Report, Partial | Rejected> =>
  Effect.flatMap(
    Effect.orDie(draft("Agenda.scatter", batch, options)),
    (draft): Effect.Effect<Report, Partial | Rejected> =>
      options.atomic === true ? atomically(agenda, draft) : loosely(agenda, draft)
  )
