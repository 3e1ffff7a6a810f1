/**
 * The gathers of a simulated docket as an auditor sees them: which members have ended, and how.
 */
import type { Docket } from "@effect-docket/dsl"

const idOf = (key: string, generation: number, gather: string): string => JSON.stringify([key, generation, gather])

/** How members have ended. */
export class Gathers {
  readonly #ended = new Map<string, Map<number, boolean>>()

  #of(id: string): Map<number, boolean> {
    let ended = this.#ended.get(id)
    if (ended === undefined) this.#ended.set(id, ended = new Map())
    return ended
  }

  /** A member has ended. The first word counts. */
  ended({ gather, generation, index, key }: Docket.EncodedParent, outcome: Docket.EncodedOutcome): void {
    const members = this.#of(idOf(key, generation, gather))
    if (!members.has(index)) members.set(index, outcome._tag === "Exit" && outcome.exit.includes("\"Success\""))
  }

  /** A member that has not succeeded is tried again. */
  again({ gather, generation, index, key }: Docket.EncodedParent): void {
    const members = this.#of(idOf(key, generation, gather))
    if (members.get(index) === false) members.delete(index)
  }

  /** What is wrong with going on now. */
  released(
    key: string,
    generation: number,
    { ended, failed, id, succeeded }: Docket.EncodedGather
  ): string | undefined {
    const members = Array.from(this.#of(idOf(key, generation, id)).values())
    const good = members.filter((isGood) => isGood).length
    const bad = members.length - good
    if (good >= succeeded || bad >= failed || members.length >= ended) return undefined
    return `it goes on with ${good} that have succeeded and ${bad} that have not, and waits for ${succeeded}, ${failed}, or ${ended} in all`
  }
}
