/**
 * The record of one run in memory, and the lists that order records; what is not due or held is in a heap (`heap.ts`). Both
 * are intrusive (their links lie on the record), so that a run is taken out of the middle at once:
 * cancelled and replaced runs leave nothing behind.
 */
import type { Docket } from "@effect-docket/dsl"
import type { Stored } from "../transitions.ts"
import type { Queue, Waiting } from "./gates.ts"
import type { Group } from "./group.ts"
import { Heap } from "./heap.ts"
import { Part } from "./part.ts"

/** One run. It is in a heap while scheduled or held, in one list otherwise: ready, leased, or settled. */
export class Run {
  readonly key: string
  group: Group
  state: Stored = "None"
  payload: string
  priority: number
  retention: Docket.EncodedAddition["retention"]
  generation: number
  due: number
  /** Place in the order of arrival among ready runs; smaller is earlier. */
  arrival = 0
  attempt = 0
  lost = 0
  failures: string | undefined = undefined
  progress: string | undefined = undefined
  trace: Docket.Trace | undefined
  gates: Docket.EncodedGates | undefined
  /** Where it is held. */
  heldIn: Queue | Waiting | undefined = undefined
  /** Token of the current claim. */
  token: string | undefined = undefined
  /** Token of the last settlement that was applied. */
  settledToken: string | undefined = undefined
  worker: string | undefined = undefined
  startedAt = 0
  /** Until when it is leased while running, kept once settled. */
  until = 0
  /** Somebody asked to cancel it while it was running. */
  cancelling = false
  settledAt = 0
  /** The latest outcome, and which generation it belongs to. */
  outcome: Docket.EncodedOutcome | undefined = undefined
  outcomeGeneration = 0
  /** The part of a flow that it is. */
  readonly part: Part | undefined
  heapIndex = -1
  list: RunList | Arrivals | undefined = undefined
  previous: Run | undefined = undefined
  next: Run | undefined = undefined

  constructor(addition: Docket.EncodedAddition, group: Group, generation: number, due: number) {
    this.key = addition.key
    this.group = group
    this.payload = addition.payload
    this.priority = addition.priority
    this.retention = addition.retention
    this.trace = addition.trace
    this.gates = addition.gates
    this.part = addition.thread && new Part(this, addition.thread)
    this.generation = generation
    this.due = due
  }
}

/** A doubly linked list of runs. */
export class RunList {
  first: Run | undefined = undefined
  last: Run | undefined = undefined
  size = 0

  append(run: Run): void {
    run.list = this
    run.previous = this.last
    run.next = undefined
    if (this.last === undefined) this.first = run
    else this.last.next = run
    this.last = run
    this.size++
  }

  remove(run: Run): void {
    if (run.previous === undefined) this.first = run.next
    else run.previous.next = run.next
    if (run.next === undefined) this.last = run.previous
    else run.next.previous = run.previous
    run.list = undefined
    run.previous = undefined
    run.next = undefined
    this.size--
  }
}

/**
 * Ready runs in the order of arrival. Most of them arrive last. Those that have been given back, or that a gate lets through,
 * have places among the others, and are in a heap: to look for a place in the list took as many steps as there are runs.
 */
export class Arrivals {
  readonly #last = new RunList()
  readonly #back = new Heap<Run>((a, b) => a.arrival < b.arrival)

  get first(): Run | undefined {
    const { first } = this.#last
    const back = this.#back.first
    return back === undefined || (first !== undefined && first.arrival < back.arrival) ? first : back
  }

  insert(run: Run): void {
    const { last } = this.#last
    if (last === undefined || last.arrival < run.arrival) return this.#last.append(run)
    run.list = this
    this.#back.add(run)
  }

  /** Takes out one that has come back: the others are in the list. */
  remove(run: Run): void {
    run.list = undefined
    this.#back.remove(run)
  }
}

/**
 * Runs that wait for an end: of a lease, of a retention. One list per duration, so that the first of a list ends first,
 * whatever is added; a worker has one lease and a task two retentions, so the lists are few. When the clock has gone back,
 * those from before are in a list of their own.
 */
export class Deadlines {
  readonly #lists = new Map<number, ReadonlyArray<RunList>>()

  add(run: Run, duration: number, now: number): void {
    run.until = now + duration
    const lists = this.#lists.get(duration) ?? []
    let list = lists.at(-1)
    if (list === undefined || (list.last !== undefined && list.last.until > run.until)) {
      list = new RunList()
      this.#lists.set(duration, [...lists.filter(({ size }) => size > 0), list])
    }
    list.append(run)
  }

  *[Symbol.iterator](): Iterator<RunList> {
    for (const lists of this.#lists.values()) yield* lists
  }

  /** Hands on runs that have ended, at most so many of each duration; `end` takes them out. */
  forEachEnded(now: number, most: number, end: (run: Run) => void): void {
    // no iterator: each turn asks
    for (const lists of this.#lists.values()) {
      for (const list of lists) {
        for (let n = 0; n < most && list.first !== undefined && list.first.until <= now; n++) end(list.first)
      }
    }
  }

  /** When the first one ends. */
  get earliest(): number {
    let at = Infinity
    for (const { first } of this) {
      if (first !== undefined && first.until < at) at = first.until
    }
    return at
  }

  get size(): number {
    let size = 0
    for (const list of this) size += list.size
    return size
  }
}
