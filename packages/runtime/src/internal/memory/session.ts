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
  /** Tokens whose runs somebody asked to cancel since its last turn. */
  cancelled: Array<string> = []

  constructor(options: WorkerOptions) {
    this.options = options
  }

  serves(group: Group): boolean {
    const version = this.options.tasks.get(group.task)
    return version !== undefined && group.version <= version && this.options.lanes.includes(group.lane)
  }
}
