/**
 * Mutations of what says when: the ticks of perpetual tasks, and the slots of agendas; and of the schema lock.
 */
import { type Mutation, unit } from "./mutation.ts"

const recurrence = "packages/dsl/src/internal/recurrence.ts"
const agenda = "packages/dsl/src/internal/agenda.ts"

const ticks = "packages/runtime/test/PerpetualTicks.test.ts"
const agendas = "packages/dsl/test/Agenda.test.ts"

/** Mutations of ticks and slots. */
export const definitions: ReadonlyArray<Mutation> = [
  {
    id: "ticks/catch-up-all",
    file: recurrence,
    find: "if (missed === undefined || missed <= startedAt) return missed",
    replace: "if (missed === undefined) return missed",
    breaks: "what was missed is not made up for, although that is declared",
    noticedBy: unit(ticks, "ticks that came while nothing ran are left out, or made up for")
  },
  {
    id: "ticks/queue-the-first",
    file: recurrence,
    find: "? lastWithin(cron, startedAt, now) : undefined",
    replace: "? cronAfter(cron, startedAt) : undefined",
    breaks: "a run that takes long is followed by one tick after the other that it missed",
    noticedBy: unit(ticks, "ticks that come while a run runs are left out, or one of them waits")
  },
  {
    id: "ticks/overlap-skip",
    file: recurrence,
    find: `overlap === "queue" ? lastWithin`,
    replace: `overlap !== "allow" ? lastWithin`,
    breaks: "ticks that should be left out wait",
    noticedBy: unit(ticks, "ticks that come while a run runs are left out, or one of them waits")
  },
  {
    id: "ticks/interval-in-the-past",
    file: recurrence,
    find: "return missed ? anchor + millis : Math.max(anchor + millis, now)",
    replace: "return anchor + millis",
    breaks: "a run that took long is followed by a burst",
    noticedBy: unit(ticks, "an interval counts from start to start")
  },
  {
    id: "ticks/jitter-adds-up",
    file: recurrence,
    find: "Math.max(tick, startedAt - (due - tick))",
    replace: "Math.max(tick, startedAt)",
    breaks: "an interval with jitter drifts",
    noticedBy: unit(ticks, "does not add up")
  },
  {
    id: "ticks/missed-by-a-minute",
    file: recurrence,
    find: "if (now - due < Math.min(patience, next.millis)) return tick",
    replace: "if (now - due < next.millis) return tick",
    breaks: "a run that is late by hours is not taken for one that was missed",
    noticedBy: unit(ticks, "a run that was missed is itself next")
  },
  {
    id: "ticks/clock-goes-back",
    file: recurrence,
    find: "Math.max(tick, startedAt), Math.max(tick, startedAt, now), due)",
    replace: "startedAt, now, due)",
    breaks: "a clock that goes back repeats ticks",
    noticedBy: unit(ticks, "a clock that goes back repeats no tick")
  },
  {
    id: "ticks/one-offset",
    file: recurrence,
    find: "if (tick !== undefined) return tick\n    const next",
    replace: "const next",
    breaks: "ticks are lost on the day on which clocks go forward",
    noticedBy: unit(ticks)
  },
  {
    id: "agenda/single-at-the-start",
    file: agenda,
    find: "count === 1 ? total / 2",
    replace: "count === 1 ? 0",
    breaks: "an agenda of one begins at once",
    noticedBy: unit(agendas, "spreads 1 items")
  },
  {
    id: "agenda/end-left-out",
    file: agenda,
    find: "i === count - 1 ? total : (total * i) / (count - 1)",
    replace: "(total * i) / count",
    breaks: "the last item lies before the end of the window",
    noticedBy: unit(agendas, "spreads 100 items to the last millisecond")
  },
  {
    id: "agenda/jitter-leaves-the-window",
    file: agenda,
    find: "Math.min(total, base + jitter)",
    replace: "base + jitter",
    breaks: "jitter puts items behind the end of the window",
    noticedBy: unit(agendas, "stays near its base and inside the period")
  },
  {
    id: "agenda/past-stays-past",
    file: agenda,
    find: "time < now ? soonest : time",
    replace: "time",
    breaks: "items have times that have passed",
    noticedBy: unit(agendas, "gives times that have passed the present")
  },
  {
    id: "definitions/few-samples-of-large-unions",
    file: "packages/runtime/src/internal/lock/sampling.ts",
    find: "count: count * times",
    replace: "count",
    breaks: "a member that goes from a large union is no breaking change",
    noticedBy: unit("packages/runtime/test/SchemaLock.test.ts", "has every member of a large union")
  }
]
