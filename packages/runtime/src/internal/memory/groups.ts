/**
 * The groups of a docket in memory, the workers that serve them, and what is paused.
 */
import type { Pause, Unserved, WorkerOptions } from "../../DocketStore.ts"
import { Group } from "./group.ts"
import type { Observers } from "./observers.ts"
import { Session } from "./session.ts"

const nothing: ReadonlyArray<never> = []

/** The groups of a docket. */
export class Groups {
  readonly #observers: Observers
  readonly #byTask = new Map<string, Array<Group>>()
  /** Groups that no attached worker serves. */
  readonly #orphans = new Set<Group>()
  readonly #sessions = new Set<Session>()
  readonly #pauses: Array<{ readonly pause: Pause; readonly reason: string }> = []

  constructor(observers: Observers) {
    this.#observers = observers
  }

  /** How many workers are attached. */
  get sessions(): number {
    return this.#sessions.size
  }

  /** The group of a task, a version of it, and a lane. */
  of(task: string, version: number, lane: string): Group {
    let groups = this.#byTask.get(task)
    if (groups === undefined) this.#byTask.set(task, groups = [])
    for (const group of groups) {
      if (group.version === version && group.lane === lane) return group
    }
    const group = new Group(task, version, lane)
    groups.push(group)
    this.#orphans.add(group)
    group.paused = this.#pauseOf(group)
    for (const session of this.#sessions) {
      if (session.serves(group)) this.#serve(session, group)
    }
    return group
  }

  ofTask(task: string): ReadonlyArray<Group> {
    return this.#byTask.get(task) ?? nothing
  }

  /** All groups: a few per task. */
  *[Symbol.iterator](): Iterator<Group> {
    for (const groups of this.#byTask.values()) yield* groups
  }

  attach(options: WorkerOptions): Session {
    const session = new Session({ ...options, onWake: () => options.onWake() }) // its own: a write calls each once
    this.#sessions.add(session)
    for (const group of this) {
      if (session.serves(group)) this.#serve(session, group)
    }
    return session
  }

  detach(session: Session): void {
    this.#sessions.delete(session)
    for (const group of session.groups) {
      group.sessions.splice(group.sessions.indexOf(session), 1)
      if (group.sessions.length === 0) this.#orphans.add(group)
      else this.#limit(group)
      // it may have been woken for a run that it will not take any more
      this.wake(group, group.ready)
    }
  }

  #serve(session: Session, group: Group): void {
    session.groups.push(group)
    group.sessions.push(session)
    this.#limit(group)
    this.#orphans.delete(group)
  }

  /** Those of the worker that was attached last count. */
  #limit(group: Group): void {
    group.limits = group.sessions.at(-1)!.options.gates?.get(group.task)
  }

  /** Whether the ready runs of a group wait for more than a free slot. */
  isHeld(group: Group): boolean {
    return group.paused !== undefined || (group.sessions.length === 0 && this.#sessions.size > 0)
  }

  get unserved(): ReadonlyArray<Unserved> {
    let unserved: Array<Unserved> | undefined
    for (const { lane, ready, task, version } of this.#orphans) {
      if (ready > 0) (unserved ??= []).push({ task, version, lane, count: ready })
    }
    return unserved ?? nothing
  }

  /** Wakes workers with free slots for so many ready runs of a group: one run wakes one worker. */
  wake(group: Group, count: number): void {
    if (group.paused !== undefined) return
    for (const session of group.sessions) {
      if (count <= 0) return
      const taken = Math.min(count, session.roomFor(group))
      if (taken <= 0) continue
      session.take(group, taken)
      count -= taken
      this.#observers.call(session.options.onWake)
    }
  }

  /** Something of a group is gone. Workers that wait for the end of it look again when nothing of it runs. */
  left(group: Group): void {
    if (group.running > 0) return
    for (const session of group.sessions) {
      if (!session.isWatching) continue
      session.isWatching = false
      this.#observers.call(session.options.onWake)
    }
  }

  /** Asks the worker of a claim to stop it. */
  requestCancel(worker: string, token: string): void {
    for (const session of this.#sessions) {
      if (session.options.worker !== worker) continue
      session.cancelled.push(token)
      this.#observers.call(session.options.onWake)
    }
  }

  pause(pause: Pause, reason: string): void {
    this.resume(pause)
    this.#pauses.push({ pause, reason })
    this.#refreshPauses()
  }

  resume({ lane, task }: Pause): void {
    const index = this.#pauses.findIndex(({ pause }) => pause.task === task && pause.lane === lane)
    if (index === -1) return
    this.#pauses.splice(index, 1)
    this.#refreshPauses()
  }

  #refreshPauses(): void {
    for (const group of this) {
      const was = group.paused
      group.paused = this.#pauseOf(group)
      if (was !== undefined) this.wake(group, group.ready)
    }
  }

  #pauseOf({ lane, task }: Group): string | undefined {
    return this.#pauses.find(({ pause }) =>
      (pause.task === undefined || pause.task === task) && (pause.lane === undefined || pause.lane === lane)
    )?.reason
  }
}
