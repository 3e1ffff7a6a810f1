/**
 * When a perpetual task runs: its ticks, its jitter, and what comes after a run. Everything here is pure, and gives the
 * same answer in every process.
 *
 * A tick is the time that a run stands for; it is due at its tick, or with jitter somewhat later. Nothing is ever due
 * before its tick, and the ticks of one chain only ever grow, whatever the clocks do.
 */
import * as Cron from "effect/Cron"
import * as DateTime from "effect/DateTime"
import * as Option from "effect/Option"
import * as Result from "effect/Result"

/** What a perpetual task does, read. Times are whole milliseconds. */
export interface Recurrence {
  readonly next: { readonly _tag: "Every"; readonly millis: number } | {
    readonly _tag: "Cron"
    readonly cron: Cron.Cron
  }
  readonly automatic: boolean
  readonly overlap: "skip" | "queue" | "allow"
  readonly catchUp: "skip" | "latest" | "all"
  readonly jitter: number
}

/** A run as its worker sees it. Times are those of the store. */
export interface Last {
  /** Which chain it belongs to, for jitter: `identity`. */
  readonly identity: string
  readonly due: number
  /** When it began; `undefined` of one that has not begun. */
  readonly startedAt: number | undefined
}

/** A time that a run stands for, and when it is due. */
export interface Tick {
  readonly at: number
  readonly due: number
}

/** Which chain: what jitter is seeded with, beside the tick. */
export const identity = (task: string, key: string): string => `${task}/${key}`

// The last time that a date can hold.
const endOfTime = 8.64e15

const day = 86_400_000

// ---------------------------------------------------------------------------------------------------------------------
// cron
// ---------------------------------------------------------------------------------------------------------------------

/** The offset of a zone from UTC at an instant. */
const offsetAt = (zone: DateTime.TimeZone, millis: number): number =>
  DateTime.zonedOffset(DateTime.makeZonedUnsafe(millis, { timeZone: zone }))

/** The time that follows when clocks go forward, as long as the local time that nobody saw. */
interface Gap {
  readonly from: number
  readonly until: number
  readonly before: DateTime.TimeZone
  readonly after: DateTime.TimeZone
}

/** The gap that an instant lies behind by less than its length. */
const gapAt = (zone: DateTime.TimeZone, instant: number): Gap | undefined => {
  const before = offsetAt(zone, instant - day)
  const after = offsetAt(zone, instant)
  if (after <= before) return undefined
  let low = instant - day
  let from = instant
  while (from - low > 1) {
    const middle = Math.floor((low + from) / 2)
    if (offsetAt(zone, middle) === before) low = middle
    else from = middle
  }
  const until = from + after - before
  return instant >= until
    ? undefined
    : { from, until, before: DateTime.zoneMakeOffset(before), after: DateTime.zoneMakeOffset(after) }
}

/**
 * The first tick after an instant in the time that follows when clocks go forward, if there is one.
 *
 * A local time that does not exist stands for the instant that it would have been: 02:30 is 03:30. `Cron.next` (effect
 * 4.1.0) does so for the first of them, forgets the others, and passes over ticks between the change and that instant. So
 * `15,45 2 * * *` has one tick in Berlin on that day, and `15,31 * * * *` none at 02:31 on Lord Howe. Here the ticks in that
 * time are those by either of the two offsets.
 */
const behindGap = (cron: Cron.Cron, gap: Gap, after: number): number | undefined => {
  const from = Math.max(after, gap.from - 1)
  const first = Math.min(
    Cron.next(inZone(cron, gap.before), from).getTime(),
    Cron.next(inZone(cron, gap.after), from).getTime()
  )
  return first < gap.until ? first : undefined
}

/** The same expression in another zone. */
export const inZone = (cron: Cron.Cron, zone: DateTime.TimeZone): Cron.Cron =>
  withFields(cron, { tz: Option.some(zone) })

/** The same expression, with repeated local times counted twice. */
export const everyOccurrence = (cron: Cron.Cron): Cron.Cron => withFields(cron, { onDstOverlap: "both" })

// `Cron.make` would lose how days and weekdays are joined, which is internal to `Cron`
const withFields = (cron: Cron.Cron, fields: Partial<Cron.Cron>): Cron.Cron =>
  Object.assign(Object.create(Object.getPrototypeOf(cron) as object) as Cron.Cron, cron, fields)

/** The first tick of an expression after an instant; `undefined` if there is none any more. */
export const cronAfter = (cron: Cron.Cron, after: number): number | undefined =>
  Option.getOrUndefined(Result.getSuccess(Result.try(() => {
    const zone = Option.getOrUndefined(cron.tz)
    const changes = zone !== undefined && DateTime.isTimeZoneNamed(zone) && zone.id !== "UTC"
    const here = changes ? gapAt(zone, after) : undefined
    const tick = here === undefined ? undefined : behindGap(cron, here, after)
    if (tick !== undefined) return tick
    const next = Cron.next(cron, here === undefined ? after : here.until - 1).getTime()
    const there = changes ? gapAt(zone, next) : undefined
    return there === undefined ? next : behindGap(cron, there, after) ?? next
  })))

/** The last tick of an expression in `(after, until]`. */
const lastWithin = (cron: Cron.Cron, after: number, until: number): number | undefined => {
  let found = cronAfter(cron, after)
  if (found === undefined || found > until) return undefined
  // the window is halved rather than walked: it may hold a million ticks
  let low = found
  let high = until
  while (low < high) {
    const middle = low + Math.floor((high - low) / 2)
    const next = cronAfter(cron, middle)
    if (next === undefined || next > until) high = middle
    else low = found = next
  }
  return found
}

// ---------------------------------------------------------------------------------------------------------------------
// jitter
// ---------------------------------------------------------------------------------------------------------------------

/** A number in `[0, size)` by a text: FNV-1a, and the last steps of MurmurHash so that neighbours differ. */
const hash = (text: string, size: number): number => {
  let h = 0x811c9dc5
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193)
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return Math.floor(((h ^ (h >>> 16)) >>> 0) / 0x1_0000_0000 * size)
}

const modulo = (a: number, b: number): number => ((a % b) + b) % b

/**
 * Half of the jitter of an interval, as the size of the blocks that its ticks are turned in.
 *
 * The ticks of an interval lie on no calendar, so a run has to show its tick, or jitter would add up from run to run. So
 * the delay is a rotation inside of blocks, which can be undone.
 */
const blockOf = ({ jitter }: Recurrence): number => Math.floor(jitter / 2) + 1

/** When a tick is due: up to `jitter` later. */
const dueAt = (recurrence: Recurrence, identity: string, tick: number): number => {
  const { jitter, next } = recurrence
  if (jitter === 0) return tick
  if (next._tag === "Cron") return tick + hash(`${identity}/${tick}`, jitter + 1)
  const size = blockOf(recurrence)
  const block = Math.floor(tick / size)
  return size - 1 + block * size + modulo(tick + hash(`${identity}/${block}`, size), size)
}

/** The tick that is due then. A time that somebody chose is its own tick. */
const tickOf = (recurrence: Recurrence, identity: string, due: number): number => {
  const { jitter, next } = recurrence
  if (jitter === 0) return due
  if (next._tag === "Cron") {
    let tick = cronAfter(next.cron, due - jitter - 1)
    while (tick !== undefined && tick <= due) {
      if (dueAt(recurrence, identity, tick) === due) return tick
      tick = cronAfter(next.cron, tick)
    }
    return due
  }
  const size = blockOf(recurrence)
  const turned = due - size + 1
  const block = Math.floor(turned / size)
  return block * size + modulo(turned - hash(`${identity}/${block}`, size), size)
}

// ---------------------------------------------------------------------------------------------------------------------
// what comes next
// ---------------------------------------------------------------------------------------------------------------------

// What is later than this was missed. A worker that is busy, or restarts, is not so late; Quartz waits as long.
export const patience = 60_000

const isWithinTime = (tick: Tick): Tick | undefined => tick.due <= endOfTime ? tick : undefined

/** The first run of a chain: at once, or at the next tick. */
export const first = (recurrence: Recurrence, identity: string, now: number): Tick | undefined => {
  const at = recurrence.next._tag === "Every" ? now : cronAfter(recurrence.next.cron, now)
  return at === undefined ? undefined : isWithinTime({ at, due: dueAt(recurrence, identity, at) })
}

/**
 * What comes next, as the policies say: `undefined` if there is no tick any more.
 *
 * After a run that has begun, ticks are missed in two ways. Those between its own tick and its start came while nothing
 * ran: `catchUp` decides. Those between its start and `now`, when it has ended, came while it ran: `overlap` decides.
 *
 * - `catchUp: "latest"`, `"skip"`: what was missed before the start is not made up for; the run stands for all of it.
 * - `catchUp: "all"`: the tick after that of the run comes next, however late it is by now.
 * - `overlap: "skip"`: next is the first tick after now.
 * - `overlap: "queue"`: the last tick that came meanwhile is next; at most one waits.
 * - `overlap: "allow"`: those that came meanwhile have runs of their own (`during`), so next is the first tick after now.
 *
 * An interval has no ticks of its own: it counts from the start of a run, so the next one is late at most because the
 * run took longer, and follows at once. Only where runs may overlap are there ticks meanwhile, each an interval after the
 * other. With `catchUp: "all"` it counts from the tick.
 *
 * Before a run has begun, what comes next is the run itself; with `catchUp: "skip"`, if it is late by a minute or the tick
 * after it has come as well, it was missed, and the first tick after `now` comes next.
 */
export const next = (recurrence: Recurrence, last: Last, now: number): Tick | undefined => {
  const { due, identity, startedAt } = last
  const tick = tickOf(recurrence, identity, due)
  const at = startedAt === undefined
    ? reconsider(recurrence, tick, due, now)
    : following(recurrence, tick, Math.max(tick, startedAt), Math.max(tick, startedAt, now), due)
  return at === undefined
    ? undefined
    : at === tick
    ? { at, due }
    : isWithinTime({ at, due: dueAt(recurrence, identity, at) })
}

const reconsider = (recurrence: Recurrence, tick: number, due: number, now: number): number | undefined => {
  const { catchUp, next } = recurrence
  if (catchUp !== "skip" || now <= due) return tick
  if (next._tag === "Every") {
    if (now - due < Math.min(patience, next.millis)) return tick
    return tick + (Math.floor((now - tick) / next.millis) + 1) * next.millis
  }
  const after = now - due < patience ? cronAfter(next.cron, tick) : undefined
  return now - due < patience && (after === undefined || after > now) ? tick : cronAfter(next.cron, Math.max(tick, now))
}

/** What an interval is counted from. Jitter that delayed the start is left out, or it would add up. */
const anchorOf = (tick: number, startedAt: number, due: number): number => Math.max(tick, startedAt - (due - tick))

const intervalAfter = (anchor: number, millis: number, after: number): number =>
  anchor + (Math.floor(Math.max(0, after - anchor) / millis) + 1) * millis

const following = (
  { catchUp, next, overlap }: Recurrence,
  tick: number,
  startedAt: number,
  now: number,
  due: number
): number | undefined => {
  if (next._tag === "Every") {
    const { millis } = next
    const anchor = catchUp === "all" ? tick : anchorOf(tick, startedAt, due)
    if (overlap === "allow") return intervalAfter(anchor, millis, now)
    const missed = catchUp === "all" && anchor + millis <= startedAt
    return missed ? anchor + millis : Math.max(anchor + millis, now)
  }
  const { cron } = next
  if (catchUp === "all") {
    const missed = cronAfter(cron, tick)
    if (missed === undefined || missed <= startedAt) return missed
  }
  const waiting = overlap === "queue" ? lastWithin(cron, startedAt, now) : undefined
  // one that waited for the run before it was not missed: it counts from now
  return waiting === undefined ? cronAfter(cron, now) : catchUp === "skip" ? now : waiting
}

/** The first tick after an instant that comes while a run is running, if that goes on for long enough. */
export const during = (recurrence: Recurrence, last: Last, after: number): Tick | undefined => {
  const { due, identity, startedAt = due } = last
  const { next } = recurrence
  const tick = tickOf(recurrence, identity, due)
  const at = next._tag === "Every"
    ? intervalAfter(anchorOf(tick, startedAt, due), next.millis, after)
    : cronAfter(next.cron, Math.max(tick, after))
  return at === undefined ? undefined : isWithinTime({ at, due: dueAt(recurrence, identity, at) })
}
