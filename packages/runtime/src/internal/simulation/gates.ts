/**
 * The gates of a simulated docket as an auditor sees them: who was let through when.
 */
import type { Docket } from "@effect-docket/dsl"
import type { GateLimits } from "../../DocketStore.ts"

/** A claim that has a slot for as long as it holds. */
interface Holder {
  readonly until: number
  readonly settled: string | undefined
  readonly droppedBy?: "rateLimit" | undefined
}

const entry = <A>(map: Map<string, A>, text: string, make: () => A): A => {
  let value = map.get(text)
  if (value === undefined) map.set(text, value = make())
  return value
}

/** What was let through; each answer is what is wrong with it. */
export class Gates {
  readonly #holders = new Map<string, Set<Holder>>()
  readonly #starts = new Map<string, Array<number>>()
  readonly #cools = new Map<string, number>()

  added(gates: Docket.EncodedGates | undefined, due: number, now: number): string | undefined {
    if (gates?.cooldown !== undefined && (this.#cools.get(gates.cooldown) ?? 0) > now) {
      return `it was accepted, and ${gates.cooldown} cools until ${this.#cools.get(gates.cooldown)}`
    }
    if (gates?.debounce !== undefined && due < now + gates.debounce.for) {
      return `it is due ${due - now} ms after it came, and settles for ${gates.debounce.for} ms`
    }
    return undefined
  }

  /** `isFirst`: no attempt of its run came before. */
  claimed(
    holder: Holder,
    gates: Docket.EncodedGates | undefined,
    limits: GateLimits | undefined,
    isFirst: boolean,
    now: number
  ): string | undefined {
    const isDropped = holder.droppedBy !== undefined
    if (gates?.cooldown !== undefined && limits?.cooldown !== undefined && isFirst && !isDropped) {
      this.#cools.set(gates.cooldown, now + limits.cooldown)
    }
    if (gates?.concurrency !== undefined) {
      const holders = entry(this.#holders, gates.concurrency, () => new Set())
      for (const other of holders) {
        if (other.settled !== undefined || other.until <= now) holders.delete(other)
      }
      holders.add(holder)
      if (holders.size > (limits?.concurrency ?? Infinity)) {
        return `${holders.size} hold a slot of ${gates.concurrency}, which has ${limits!.concurrency}`
      }
    }
    if (gates?.rateLimit !== undefined && limits?.rateLimit !== undefined && !isDropped) {
      const { limit, window } = limits.rateLimit
      const starts = entry<Array<number>>(this.#starts, gates.rateLimit, () => [])
      starts.push(now)
      while (starts[0]! <= now - window) starts.shift()
      if (starts.length > limit) return `${starts.length} of ${gates.rateLimit} began within ${window} ms, not ${limit}`
    }
    return undefined
  }
}
