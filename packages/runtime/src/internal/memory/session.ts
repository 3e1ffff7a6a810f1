/**
 * An attached worker, as the store in memory sees it.
 */
import type { WorkerOptions } from "../../DocketStore.ts"
import type { Group } from "./group.ts"

/** An attached worker. */
export class Session {
  readonly options: WorkerOptions
  /** The groups that it serves. */
  readonly groups: Array<Group> = []
  /** Slots that its last turn left free, less the runs that it was woken for since. */
  free = 0
  /** The same per lane, if it divides them: it is not woken for what it would not take. */
  room: Map<string, number> | undefined = undefined
  /** Tasks that it leaves alone. */
  except: ReadonlySet<string> | undefined = undefined
  /** Tokens whose runs somebody asked to cancel since its last turn. */
  cancelled: Array<string> = []

  constructor(options: WorkerOptions) {
    this.options = options
  }

  /** How many ready runs of a group it would take. */
  roomFor({ lane, task }: Group): number {
    return this.except?.has(task) === true
      ? 0
      : this.room === undefined
      ? this.free
      : Math.min(this.free, this.room.get(lane) ?? 0)
  }

  serves(group: Group): boolean {
    const version = this.options.tasks.get(group.task)
    return version !== undefined && group.version <= version && this.options.lanes.includes(group.lane)
  }
}
