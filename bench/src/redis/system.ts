/**
 * What every system is asked to do. The payload of run `n` is `{ id: "item-<n>", n }`, its id is also its key, and its
 * handler returns `n + 1`.
 */

/** The payload of a run. */
export interface Payload {
  readonly id: string
  readonly n: number
}

/** The payload of run `n`. */
export const payload = (n: number): Payload => ({ id: `item-${n}`, n })

/** A worker at work. */
export interface Working {
  /** After that, nothing is under way any more, and everything that has been done is settled. */
  readonly stop: () => Promise<void>
}

/** One queue of a system, empty at first. */
export interface Session {
  /** Adds runs from `first` on, one call each, `inFlight` at once. */
  readonly addEach: (first: number, n: number, inFlight: number) => Promise<void>
  /** Adds runs from `first` on, a thousand a call where the system can; due at a time of this clock, or at once. */
  readonly addAll: (first: number, n: number, due?: number) => Promise<void>
  /** Adds one that is due at a time of this clock. */
  readonly addAt: (n: number, due: number) => Promise<void>
  /** Starts a worker. `onStart` is called by the handler, `onSettled` when the system has settled a run, if it says so. */
  readonly work: (concurrency: number, onStart: (n: number) => void, onSettled: () => void) => Promise<Working>
  readonly close: () => Promise<void>
}

/** A system. */
export interface System {
  readonly name: string
  /** What it does less than the others, or otherwise. */
  readonly note?: string
  /** `onSettled` is called; otherwise the worker has to be stopped to know that all is settled. */
  readonly tellsSettled: boolean
  readonly open: (port: number) => Promise<Session>
}

/** Calls `add` for `n` runs from `first` on, `inFlight` at once. */
export const inFlight = async (first: number, n: number, atOnce: number, add: (n: number) => Promise<unknown>) => {
  let next = first
  const lane = async () => {
    while (next < first + n) {
      // oxlint-disable-next-line no-await-in-loop -- a lane is one call after the other
      await add(next++)
    }
  }
  await Promise.all(Array.from({ length: atOnce }, lane))
}
