/**
 * Strikes of a docket: which additions and claims they stop. A payload is only read where its task has a strike.
 */
import type { Docket } from "@effect-docket/dsl"
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"

const idOf = ({ where }: Pick<Docket.EncodedStrike, "where">): string => JSON.stringify(where)

const isEqual = (a: unknown, b: unknown): boolean => a === b || JSON.stringify(a) === JSON.stringify(b)

const isInteger = (value: unknown): boolean => typeof value === "string" && /^-?\d+$/.test(value)

// a stored bigint is text, and the text of an older version of a task may be no integer
const isComparable = (a: unknown, b: unknown, bigint: boolean): boolean =>
  bigint ? isInteger(a) && isInteger(b) : typeof a === typeof b

const isLess = (a: unknown, b: unknown, bigint: boolean): boolean => {
  if (!isComparable(a, b, bigint)) return false
  if (typeof a === "number" && typeof b === "number") return a < b
  if (typeof a !== "string" || typeof b !== "string") return false
  return bigint ? BigInt(a) < BigInt(b) : a < b
}

/** Whether a condition holds for the JSON form of a field. */
const holds = ({ bigint, operator, values }: Docket.EncodedCondition, value: unknown): boolean => {
  switch (operator) {
    case "equals":
    case "oneOf":
      return values.some((wanted) => isEqual(value, wanted))
    case "not":
      return !isEqual(value, values[0])
    case "greaterThan":
      return isLess(values[0], value, bigint)
    case "lessThan":
      return isLess(value, values[0], bigint)
    case "greaterThanOrEqualTo":
      return isComparable(value, values[0], bigint) && !isLess(value, values[0], bigint)
    case "lessThanOrEqualTo":
      return isComparable(value, values[0], bigint) && !isLess(values[0], value, bigint)
    case "between":
      // of comparable values: neither below the first nor above the second
      return isComparable(value, values[0], bigint) && !isLess(value, values[0], bigint) &&
        !isLess(values[1], value, bigint)
  }
}

/** What is told of a strike to those that it stops: why, and by whom if that is known. */
export const struckBy = ({ author, reason }: Pick<Docket.EncodedStrike, "author" | "reason">) => ({
  reason,
  ...author !== undefined && { author }
})

/** The strikes of a docket. */
export class Strikes {
  readonly #byTask = new Map<string, Map<string, Docket.EncodedStrike>>()

  add(strike: Docket.EncodedStrike): void {
    let strikes = this.#byTask.get(strike.task)
    if (strikes === undefined) this.#byTask.set(strike.task, strikes = new Map())
    strikes.set(idOf(strike), strike)
  }

  remove(strike: Pick<Docket.EncodedStrike, "task" | "where">): void {
    const strikes = this.#byTask.get(strike.task)
    strikes?.delete(idOf(strike))
    if (strikes?.size === 0) this.#byTask.delete(strike.task)
  }

  /** The strike that stops this payload of a task now. */
  find(task: string, payload: string, now: number): Docket.EncodedStrike | undefined {
    const strikes = this.#byTask.get(task)
    if (strikes === undefined) return undefined
    let fields: unknown
    for (const strike of strikes.values()) {
      if (strike.until !== undefined && strike.until <= now) {
        this.remove(strike)
        continue
      }
      if (strike.where.length === 0) return strike
      fields ??= Result.getOrUndefined(Result.try(() => JSON.parse(payload) as unknown))
      const stored = fields
      if (
        Predicate.isObject(stored) &&
        strike.where.every((condition) =>
          holds(condition, Object.hasOwn(stored, condition.field) ? Reflect.get(stored, condition.field) : undefined)
        )
      ) return strike
    }
    return undefined
  }
}
