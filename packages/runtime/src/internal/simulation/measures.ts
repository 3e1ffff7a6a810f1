/**
 * What operators have stopped in a simulated docket.
 */
import type { Docket } from "@effect-docket/dsl"
import type { Pause } from "../../DocketStore.ts"

const idOf = ({ task, where }: Pick<Docket.EncodedStrike, "task" | "where">): string => JSON.stringify([task, where])

/** Whether a condition holds; `undefined` where the auditor would have to know what the store does. */
const holds = ({ bigint, field, operator, values }: Docket.EncodedCondition, payload: unknown): boolean | undefined =>
  operator === "equals" && !bigint && typeof payload === "object" && payload !== null
    ? JSON.stringify(Reflect.get(payload, field)) === JSON.stringify(values[0])
    : undefined

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

  /** Whether something strikes a run of a task; `undefined` where that cannot be said. */
  isStruck(task: string, payload: string, now: number): boolean | undefined {
    const strikes = this.strikes.filter(({ task: struck, until }) =>
      struck === task && (until === undefined || until > now)
    )
    const answers = new Set(strikes.map(({ where }) => {
      const conditions = new Set(where.map((condition) => holds(condition, JSON.parse(payload))))
      return conditions.has(false) ? false : conditions.has(undefined) ? undefined : true
    }))
    return answers.has(true) ? true : answers.has(undefined) ? undefined : false
  }
}
