/**
 * What operators have stopped in a simulated docket.
 */
import type { Docket } from "@effect-docket/dsl"
import type { Pause } from "../../DocketStore.ts"

const idOf = ({ task, where }: Pick<Docket.EncodedStrike, "task" | "where">): string => JSON.stringify([task, where])

/** Pauses and strikes. */
export class Measures {
  readonly #paused = new Map<string, Pause>()
  readonly #strikes = new Map<string, Docket.EncodedStrike>()

  paused(pause: Pause): void {
    this.#paused.set(JSON.stringify(pause), pause)
  }

  resumed(pause: Pause): void {
    this.#paused.delete(JSON.stringify(pause))
  }

  struck(strike: Docket.EncodedStrike): void {
    this.#strikes.set(idOf(strike), strike)
  }

  restored(strike: Pick<Docket.EncodedStrike, "task" | "where">): void {
    this.#strikes.delete(idOf(strike))
  }

  get pauses(): ReadonlyArray<Pause> {
    return Array.from(this.#paused.values())
  }

  get strikes(): ReadonlyArray<Docket.EncodedStrike> {
    return Array.from(this.#strikes.values())
  }

  isPaused(task: string, lane: string | undefined): boolean {
    return this.pauses.some((pause) =>
      (pause.task === undefined || pause.task === task) && (pause.lane === undefined || pause.lane === lane)
    )
  }

  /** Whether something strikes a task: all of it, or some of its payloads. */
  isStruck(task: string, now: number, isWhole: boolean): boolean {
    return this.strikes.some((strike) =>
      strike.task === task && (!isWhole || strike.where.length === 0) &&
      (strike.until === undefined || strike.until > now)
    )
  }
}
