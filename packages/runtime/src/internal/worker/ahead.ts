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
  #turn = 0
  #busy = 0
  #ended = 0

  /** A turn took that long. Times are in nanoseconds. */
  observeTurn(nanos: number): void {
    this.#turn += (nanos - this.#turn) * weight
  }

  /** Bodies ran for that long, one or several at a time, and so many ended. The rate is no mean of rates: both are summed up. */
  observeRuns(nanos: number, ended: number): void {
    this.#busy = this.#busy * (1 - weight) + nanos
    this.#ended = this.#ended * (1 - weight) + ended
  }

  /** What was known of runs is not true any more. */
  forget(): void {
    this.#busy = 0
    this.#ended = 0
  }

  get count(): number {
    // with a simulated clock nothing takes time, and nothing is claimed ahead
    if (this.#busy <= 0 || this.#turn <= 0) return 0
    return Math.min(maxAhead, Math.floor(this.#ended * Math.min(this.#turn, maxWork) / this.#busy))
  }
}
