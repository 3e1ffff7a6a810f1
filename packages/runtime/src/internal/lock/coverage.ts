/**
 * Which of many values show what a schema allows: each member of a union, each field there and missing, and what a check is
 * often about, such as signs, sizes and fractions. A dozen random values miss a member of twenty, and the text that is empty.
 */
import type * as Schema from "effect/Schema"

/** What the JSON Schemas of values name. */
interface Vocabulary {
  readonly names: ReadonlySet<string>
  readonly literals: ReadonlySet<unknown>
}

const vocabularyOf = (document: Schema.Json): Vocabulary => {
  const names = new Set<string>()
  const literals = new Set<unknown>()
  const visit = (node: unknown): void => {
    if (typeof node !== "object" || node === null) return
    for (const [keyword, value] of Object.entries(node)) {
      if (keyword === "properties" && typeof value === "object") {
        Object.keys(value as object).forEach((name) => names.add(name))
      }
      if (keyword === "enum" && Array.isArray(value)) value.forEach((literal) => literals.add(literal))
      visit(value)
    }
  }
  visit(document)
  return { names, literals }
}

/** How many literals a JSON Schema names: so many members a union may have. */
export const literalsOf = (document: Schema.Json): number => vocabularyOf(document).literals.size

/** 0, and the number of digits, at most three. */
const sizeOf = (n: number): number => Math.min(3, Math.ceil(Math.log10(n + 1)))

// a recursive schema is the same all the way down
const maxSegments = 3

/** What a value shows, each with the place where it does. */
const featuresOf = (value: Schema.Json, { literals, names }: Vocabulary): ReadonlySet<string> => {
  const features = new Set<string>()
  const visit = (value: unknown, path: ReadonlyArray<string>): void => {
    const place = path.slice(-maxSegments).join("/")
    const show = (...what: ReadonlyArray<unknown>) => what.forEach((what) => features.add(`${place} ${String(what)}`))
    if (literals.has(value) || value === null || typeof value === "boolean") return show(JSON.stringify(value))
    if (typeof value === "string") {
      return show(`text of ${sizeOf(value.length)}`, /^[ -~]*$/.test(value) ? "ASCII" : "not", value === value.trim())
    }
    if (typeof value === "number") {
      return show(Math.sign(value), Number.isInteger(value) ? "whole" : "fraction", `size ${sizeOf(Math.abs(value))}`)
    }
    const items = Object.entries(value as object) // an array or an object is what is left of JSON
    show(Array.isArray(value) ? "array" : "object", `${Math.min(2, items.length)} items`)
    if (Array.isArray(value)) return items.forEach(([, item]) => visit(item, [...path, "[]"]))
    const fields = new Map(items)
    for (const name of names) if (!fields.has(name)) show(`without ${name}`)
    // members of a union have their fields to themselves
    const member = literals.has(fields.get("_tag")) ? `${String(fields.get("_tag"))}.` : ""
    for (const [name, item] of fields) visit(item, [...path, `${member}${names.has(name) ? name : "*"}`])
  }
  visit(value, [])
  return features
}

// of whatever kind: no feature asks for what a check of somebody may be about
const first = 6

/** Few of the values that show what all show, short ones first. The values have the JSON Schema. */
export const cover = <A>(
  values: ReadonlyArray<{ readonly value: A; readonly json: Schema.Json }>,
  document: Schema.Json
): ReadonlyArray<A> => {
  const vocabulary = vocabularyOf(document)
  const candidates = Array.from(
    new Map(values.map(({ json, value }) => [JSON.stringify(json), { json, value }] as const)),
    ([{ length }, { json, value }]) => ({ length, value, features: featuresOf(json, vocabulary) })
  )
  const chosen = candidates.slice(0, first)
  const shown = new Set(chosen.flatMap(({ features }) => [...features]))
  for (const candidate of candidates.slice(first).toSorted((a, b) => a.length - b.length)) {
    if (Array.from(candidate.features).every((feature) => shown.has(feature))) continue
    candidate.features.forEach((feature) => shown.add(feature))
    chosen.push(candidate)
  }
  return chosen.map(({ value }) => value)
}
