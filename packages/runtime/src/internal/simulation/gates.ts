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
  readonly #rates = new Map<string, NonNullable<GateLimits["rateLimit"]>>()
  readonly #cools = new Map<string, number>()

  isCooling(cooldown: string | undefined, now: number): boolean {
    return cooldown !== undefined && (this.#cools.get(cooldown) ?? 0) > now
  }

  added(gates: Docket.EncodedGates | undefined, due: number, now: number): string | undefined {
    if (this.isCooling(gates?.cooldown, now)) {
      return `it was accepted, and ${gates!.cooldown} cools until ${this.#cools.get(gates!.cooldown!)}`
    }
    if (gates?.debounce !== undefined && due < now + gates.debounce.for) {
      return `it is due ${due - now} ms after it came, and settles for ${gates.debounce.for} ms`
    }
    return undefined
  }

  /** How many more may start now, as whoever started last says. */
  room(rateLimit: string, now: number): number {
    const rate = this.#rates.get(rateLimit)
    const starts = this.#starts.get(rateLimit) ?? []
    return rate === undefined ? 0 : rate.limit - starts.filter((start) => start > now - rate.window).length
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
      this.#rates.set(gates.rateLimit, limits.rateLimit)
      const starts = entry<Array<number>>(this.#starts, gates.rateLimit, () => [])
      starts.push(now)
      while (starts[0]! <= now - window) starts.shift()
      if (starts.length > limit) return `${starts.length} of ${gates.rateLimit} began within ${window} ms, not ${limit}`
    }
    return undefined
  }
}
