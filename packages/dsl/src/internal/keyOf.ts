/**
 * Keys that are computed from a payload: those of runs, and the values that gates are about.
 */

/** A key option without its payload type. */
export type AnyKey = ((payload: never) => string) | ReadonlyArray<PropertyKey>

/** A value as a part of a key: URI-encoded. A lone surrogate has no such form; `%uD800` is unlike any other part. */
export const keyPart = (value: unknown): string => {
  // nothing is unlike the text that names it: no text is encoded to this
  if (value === null || value === undefined) return `%${String(value)}`
  const text = String(value)
  return text.isWellFormed()
    ? encodeURIComponent(text)
    : Array.from(
      text,
      (character) =>
        character.isWellFormed()
          ? encodeURIComponent(character)
          : `%u${character.charCodeAt(0).toString(16).toUpperCase()}`
    ).join("")
}

/** The value of a key option for a payload. */
export const keyOf = (tag: string, key: AnyKey, payload: unknown): string => {
  if (typeof key === "function") return key(payload as never) // the task was made with a function of its payload
  const fields = payload as Readonly<Record<PropertyKey, unknown>> // keys by field are only accepted for structs
  return `${tag}/${key.map((field) => keyPart(fields[field])).join("/")}`
}
