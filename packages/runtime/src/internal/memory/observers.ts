/**
 * Who is told about what is written in memory: subscribers of events, waiters for outcomes, workers, the timer.
 *
 * They are told when the write is done and not before: they go on at once, in the same call stack, and what they do next
 * has to find the whole of it.
 */
import type { Docket } from "@effect-docket/dsl"
import type { StoredEvent } from "../../DocketStore.ts"
import type { Run } from "./run.ts"

interface Waiter {
  readonly generation: number
  readonly resume: (outcome: Docket.EncodedOutcome) => void
}

interface Subscriber {
  readonly key: string | undefined
  readonly offer: (event: StoredEvent) => void
}

/** Those who are told. */
export class Observers {
  readonly #waiters = new Map<string, Set<Waiter>>()
  readonly #subscribers = new Set<Subscriber>()
  // a worker that is woken for a hundred runs takes one turn for them
  #outgoing = new Set<() => void>()

  /** How many wait, and how many listen. */
  get sizes() {
    return { waiters: this.#waiters.size, subscribers: this.#subscribers.size }
  }

  /** Calls somebody when the write is done, once. */
  call(tell: () => void): void {
    this.#outgoing.add(tell)
  }

  /** The write is done. */
  flush(): void {
    while (this.#outgoing.size > 0) {
      const outgoing = this.#outgoing
      this.#outgoing = new Set()
      for (const tell of outgoing) tell()
    }
  }

  /** Whether anybody listens; events are made for observers only. */
  get isListening(): boolean {
    return this.#subscribers.size > 0
  }

  /** Tells an event of a run; `flow`: who else is told. */
  publish(run: Run, event: Docket.EncodedEvent, flow?: Docket.EncodedFlow): void {
    for (const { key, offer } of this.#subscribers) {
      if (key !== undefined && key !== run.key && key !== flow?.key) continue
      const stored: StoredEvent = { task: run.group.task, key: run.key, generation: run.generation, event, flow }
      this.call(() => offer(stored))
    }
  }

  /** Listens to the events of a key, or of all; the result stops listening. */
  subscribe(key: string | undefined, offer: (event: StoredEvent) => void): () => void {
    const subscriber: Subscriber = { key, offer }
    this.#subscribers.add(subscriber)
    return () => {
      this.#subscribers.delete(subscriber)
    }
  }

  /** Tells who waits for this generation of a key or an earlier one. */
  tell(key: string, generation: number, outcome: Docket.EncodedOutcome): void {
    const waiters = this.#waiters.get(key)
    if (waiters === undefined) return
    for (const waiter of waiters) {
      if (waiter.generation > generation) continue
      waiters.delete(waiter)
      this.call(() => waiter.resume(outcome))
    }
    if (waiters.size === 0) this.#waiters.delete(key)
  }

  /** Waits for the outcome of a generation of a key; the result stops waiting. */
  wait(key: string, generation: number, resume: (outcome: Docket.EncodedOutcome) => void): () => void {
    let waiters = this.#waiters.get(key)
    if (waiters === undefined) this.#waiters.set(key, waiters = new Set())
    const waiter: Waiter = { generation, resume }
    waiters.add(waiter)
    return () => {
      waiters.delete(waiter)
      if (waiters.size === 0 && this.#waiters.get(key) === waiters) this.#waiters.delete(key)
    }
  }
}
