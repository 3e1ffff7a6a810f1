/**
 * How many runs to claim ahead of free slots, so that a fast handler never waits for the store, and a slow one never
 * hides runs from idle workers: as many as end while a turn is under way, at most a few milliseconds of work.
 */

// More than this is no use: the next turn brings more before they are done.
const maxAhead = 500

// Work that may wait in a worker, in nanoseconds. A run that waits here is one that an idle worker elsewhere cannot have.
const maxWork = 5_000_000

// Weight of the latest observation: a change of the load is followed within about ten turns.
const weight = 0.2

/** Observes turns and says how many runs to claim ahead. */
export class Ahead {
  readonly #concurrency: number
  #turn = 0
  #run = Infinity

  constructor(concurrency: number) {
    this.#concurrency = concurrency
  }

  /** A turn took that long. Times are in nanoseconds. */
  observeTurn(nanos: number): void {
    this.#turn += (nanos - this.#turn) * weight
  }

  /** In that time, with all slots in use, so many runs ended: by Little's law the mean time of a run. */
  observeRuns(nanos: number, ended: number): void {
    const run = nanos * this.#concurrency / ended
    this.#run = this.#run === Infinity ? run : this.#run + (run - this.#run) * weight
  }

  /** What was known of runs is not true any more. */
  forget(): void {
    this.#run = Infinity
  }

  get count(): number {
    const { run, turn } = { run: this.#run, turn: this.#turn }
    // with a simulated clock nothing takes time, and nothing is claimed ahead
    if (run <= 0 || run === Infinity || turn <= 0) return 0
    return Math.min(maxAhead, Math.floor(this.#concurrency * Math.min(turn, maxWork) / run))
  }
}
