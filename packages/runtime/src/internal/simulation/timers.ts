/**
 * Times at which something has to have happened, and what a store shows then.
 *
 * Each request does on its way what time asks for, so in a docket that is busy nobody misses a timer that was not set. That
 * is why a time is looked at when everybody has done what there was to do then, before the clock moves on.
 */
import type { Docket } from "@effect-docket/dsl"
import { Heap } from "../memory/heap.ts"

/** What the store shows of a key at that time. */
export interface View {
  readonly get: (key: string) => Docket.EncodedRun | undefined
  readonly explain: (key: string) => Docket.Explanation
}

/** Something that comes with time. Each answer is what is wrong. */
export interface Timer {
  readonly at: number
  /** Asked at the last moment before it comes. */
  readonly before?: (view: View) => string | undefined
  /** Asked when it has come; a time to ask again, if it has been put off. */
  readonly after: (view: View, now: number) => string | number | undefined
}

interface Pending extends Timer {
  heapIndex: number
}

/** Everything that is to come. */
export class Timers {
  readonly #pending = new Heap<Pending>((a, b) => a.at < b.at)

  add(timer: Timer): void {
    this.#pending.add({ ...timer, heapIndex: -1 })
  }

  /** Nothing more happens at a time, and the clock is about to move on. */
  check(now: number, until: number, view: View): ReadonlyArray<string> {
    const wrong: Array<string | undefined> = []
    const later: Array<Timer> = []
    for (let timer = this.#pending.first; timer !== undefined && timer.at <= until; timer = this.#pending.first) {
      this.#pending.remove(timer)
      if (timer.at > now) {
        wrong.push(timer.before?.(view))
        later.push(timer)
        continue
      }
      const answer = timer.after(view, now)
      if (typeof answer === "number") later.push({ ...timer, at: answer })
      else wrong.push(answer)
    }
    for (const timer of later) this.add(timer)
    return wrong.filter((text) => text !== undefined)
  }
}
