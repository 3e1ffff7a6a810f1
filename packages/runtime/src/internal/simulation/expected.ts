/**
 * What time has to bring about, whoever asks: what is due is ready, what a dead worker held is taken back when its lease is
 * over, a flow without patience gets an interpreter, a window lets somebody through, and what has settled is kept until its
 * retention is over, and no longer.
 */
import { type Claimed, type Generation, isCurrent, nameOf } from "./books.ts"
import type { Ledger } from "./ledger.ts"

/** A run waits until it is due, and no longer than its flow has patience. */
export const waits = ({ timers }: Ledger, run: Generation): void => {
  const { deadline, generation, key, notBefore } = run
  timers.add({
    at: notBefore,
    after: (view, now) => {
      const stored = view.get(key)
      return stored?.generation === generation && stored.state === "Scheduled" && stored.due <= now
        ? `${key}#${generation} is still scheduled, ${now - stored.due} ms after it was due`
        : undefined
    }
  })
  if (deadline === undefined) return
  timers.add({
    at: deadline,
    after: (view) => {
      const stored = view.get(key)
      if (stored?.generation !== generation || stored.thread?.deadline !== deadline) return undefined
      // what is held may be on its way: to an interpreter that is paused, or not there
      return stored.state === "Scheduled" || (run.waitsFor !== undefined && !run.isReady)
        ? `${key}#${generation} is still ${stored.state}, and its flow had patience until ${deadline}`
        : undefined
    }
  })
}

/** A worker that says no more has a run until its lease is over. */
export const isHeld = ({ timers }: Ledger, run: Generation, claim: Claimed): void => {
  timers.add({
    at: claim.until,
    after: (view, now) => {
      const stored = view.get(run.key)
      const isOpen = isCurrent(run, claim) && stored?.generation === run.generation && stored.state === "Running"
      if (!isOpen) return undefined
      return claim.until > now ? claim.until : `${nameOf(claim)} is still held, and its lease ended at ${claim.until}`
    }
  })
}

/** A window has room again then: somebody who waits for it is let through. */
export const opens = ({ current, gates, timers }: Ledger, gate: string, at: number): void => {
  timers.add({
    at,
    after: (view, now) => {
      const waiting = Array.from(current.values())
        .filter((run) => run.ended === undefined && run.gates?.rateLimit === gate)
        .map(({ key }) => ({ key, state: view.get(key)?.state, explanation: view.explain(key) }))
      const held = waiting.find(({ explanation }) =>
        explanation._tag === "Limited" && explanation.by === "rateLimit" && explanation.position === 0
      )
      // they have a place as good as taken
      const ready = waiting.filter(({ explanation, state }) =>
        explanation._tag !== "Limited" && (state === "Ready" || state === "Held")
      )
      const room = gates.room(gate, now)
      return held !== undefined && ready.length < room
        ? `${held.key} is still held, and ${gate} has room for ${room}`
        : undefined
    }
  })
}

/** A run that has settled is kept until its retention is over, and no longer, unless its key is used again. */
export const isKept = ({ current, timers, unseen }: Ledger, run: Generation, now: number): void => {
  const { generation, key, latest, outcome, retention } = run
  const hasFailed = outcome?._tag === "Exit" && latest?.settled === "Failed"
  const length = hasFailed ? retention.failure : retention.success
  const isLast = () => current.get(key) === run && !unseen.has(key)
  const how = hasFailed ? "has failed" : "has not failed"
  const what = `${key}#${generation}, which ${how} and is kept for ${length} ms,`
  timers.add({
    at: now + length,
    before: (view) => view.get(key) === undefined && isLast() ? `${what} is gone before` : undefined,
    after: (view) => view.get(key)?.generation === generation && isLast() ? `${what} is still there` : undefined
  })
}
