/**
 * What every system is asked to do with flows. Handlers do nothing but hand numbers on.
 */

/** One docket or queue of a system, empty at first, with a worker. */
export interface Session {
  /** Runs a flow of `n` steps, one after the other, to its end. */
  readonly chain: (n: number) => Promise<void>
  /** Runs a flow that fans out to `n` members and joins their results, to its end. */
  readonly fan: (n: number) => Promise<void>
  /** Runs `n` flows at once: a step, a fan-out to five members, and a step that joins them. */
  readonly many: (n: number) => Promise<void>
  /** Starts `n` of these flows, due in a day. */
  readonly waiting: (n: number) => Promise<void>
  readonly close: () => Promise<void>
}

/** A system. */
export interface System {
  readonly name: string
  /** What it does less than the others, or otherwise. */
  readonly note?: string
  readonly open: (port: number) => Promise<Session>
}

/** Runs that a worker has at once. */
export const concurrency = 100

/** Members of a small flow. */
export const few = 5
