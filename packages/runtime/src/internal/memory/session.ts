/**
 * An attached worker, as the store in memory sees it.
 */
import type { WorkerOptions } from "../../DocketStore.ts"
import type { Group } from "./group.ts"
import type { Run } from "./run.ts"

/** An attached worker. */
export class Session {
  readonly options: WorkerOptions
  /** The groups that it serves. */
  readonly groups: Array<Group> = []
  /** Slots that its last turn left free, less the runs that it was woken for since. */
  free = 0
  /** The same for runs of flows between two steps. */
  freeBetween = 0
  /** The same per lane, if it divides them: it is not woken for what it would not take. */
  room: Map<string, number> | undefined = undefined
  /** Tasks that it leaves alone. */
  except: ReadonlySet<string> | undefined = undefined
  /** It has nothing to do, and waits for the end of what others do. */
  isWatching = false
  /** Tokens whose runs somebody asked to cancel since its last turn. */
  cancelled: Array<string> = []

  constructor(options: WorkerOptions) {
    this.options = options
  }

  /** How many ready runs of a group it would take. */
  roomFor({ isBetween, lane, task }: Group): number {
    if (isBetween) return this.freeBetween
    return this.except?.has(task) === true
      ? 0
      : this.room === undefined
      ? this.free
      : Math.min(this.free, this.room.get(lane) ?? 0)
  }

  serves(group: Group): boolean {
    if (group.isBetween) return this.options.flows?.get(group.task)?.has(group.version) === true
    const version = this.options.tasks.get(group.task)
    return version !== undefined && group.version <= version && this.options.lanes.includes(group.lane)
  }

  /** Takes back what `roomFor` said, for so many runs. */
  take(group: Group, count: number): void {
    if (group.isBetween) {
      this.freeBetween -= count
      return
    }
    this.free -= count
    this.room?.set(group.lane, this.room.get(group.lane)! - count)
  }

  /**
   * The ready run that it would take next: the earliest of the highest priority among the groups that it serves, those of
   * flows between two steps or the others.
   */
  next(between: boolean): Run | undefined {
    let first: Run | undefined
    // a worker serves few groups
    for (const group of this.groups) {
      if (group.isBetween !== between || group.ready === 0 || group.paused !== undefined) continue
      if (!between && this.except?.has(group.task) === true) continue
      if (!between && this.room !== undefined && (this.room.get(group.lane) ?? 0) <= 0) continue
      const run = group.first!
      if (
        first === undefined || run.priority > first.priority ||
        (run.priority === first.priority && run.arrival < first.arrival)
      ) first = run
    }
    return first
  }
}
