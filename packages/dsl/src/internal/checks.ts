/**
 * Checks of options. They throw the typed error that names the option.
 */
import * as Duration from "effect/Duration"
import { DocketError, InvalidOption } from "../DocketError.ts"

/** Throws the typed error of a bad option. */
export const invalid = (operation: string, option: string, message: string): never => {
  throw new DocketError({
    operation,
    reason: new InvalidOption({ option, message: `option \`${option}\`: ${message}` })
  })
}

/** A duration option in milliseconds. */
export const millis = (operation: string, option: string, input: Duration.Input, minimum = 0): number => {
  const duration = Duration.fromInput(input)
  if (duration._tag === "None") return invalid(operation, option, `${JSON.stringify(input)} is not a duration`)
  const value = Duration.toMillis(duration.value)
  if (!(value >= minimum)) {
    return invalid(operation, option, `has to be at least ${minimum} ms, it is ${Duration.format(duration.value)}`)
  }
  return value
}

/** An integer option. */
export const integer = (operation: string, option: string, value: unknown, minimum: number): number =>
  typeof value === "number" && Number.isSafeInteger(value) && value >= minimum
    ? value
    : invalid(operation, option, `has to be an integer of at least ${minimum}, it is ${String(value)}`)

/**
 * A name: not empty, and not with half of a surrogate pair, for which UTF-8 has no bytes. Stores could not tell two such names
 * apart.
 */
export const name = (operation: string, option: string, value: string): string =>
  value === ""
    ? invalid(operation, option, "must not be empty")
    : value.isWellFormed()
    ? value
    : invalid(operation, option, "must not contain half of a surrogate pair")

/** Whether an option is the object with one of these fields. */
export const isPart = (u: unknown, ...names: ReadonlyArray<string>): u is Readonly<Record<string, unknown>> =>
  typeof u === "object" && u !== null && names.some((name) => Object.hasOwn(u, name))
