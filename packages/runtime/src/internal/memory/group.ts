/**
 * Runs that the same workers can serve: one task, one version, one lane. A worker looks at the groups that it serves and
 * never at a run that it could not run.
 */
import type { GateLimits } from "../../DocketStore.ts"
import { Arrivals, type Run } from "./run.ts"
import type { Session } from "./session.ts"

/** A task, a version of it, and a lane. */
export class Group {
  readonly task: string
  readonly version: number
  readonly lane: string
  /** Attached workers that serve it. */
  readonly sessions: Array<Session> = []
  /** Failed runs that are still kept, oldest first. */
  readonly failed = new Set<Run>()
  scheduled = 0
  ready = 0
  held = 0
  running = 0
  /** How much its gates let through, as the last worker that was attached says. */
  limits: GateLimits | undefined = undefined
  /** Why it is paused. */
  paused: string | undefined = undefined
  /** Ready runs by priority, highest first. A task has one or a handful of priorities. */
  readonly #queues: Array<{ readonly priority: number; readonly runs: Arrivals }> = []

  constructor(task: string, version: number, lane: string) {
    this.task = task
    this.version = version
    this.lane = lane
  }

  /** Runs of a flow between two steps: `task` is the flow. */
  get isBetween(): boolean {
    return this.lane === ""
  }

  get pending(): number {
    return this.scheduled + this.ready + this.held
  }

  /** The ready run that is next. */
  get first(): Run | undefined {
    for (const { runs } of this.#queues) {
      const { first } = runs
      if (first !== undefined) return first
    }
    return undefined
  }

  queue(priority: number): Arrivals {
    let index = 0
    while (index < this.#queues.length && this.#queues[index]!.priority > priority) index++
    const found = this.#queues[index]
    if (found !== undefined && found.priority === priority) return found.runs
    const runs = new Arrivals()
    this.#queues.splice(index, 0, { priority, runs })
    return runs
  }
}
