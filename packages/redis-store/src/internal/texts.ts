/**
 * Texts and numbers in what Redis holds, as the scripts write them.
 */

/** The end of a text that begins with its length and a colon; `NaN` if there is none. */
export const textEnd = (bytes: Buffer, at: number): number => {
  const colon = bytes.indexOf(58, at)
  const length = colon === -1 ? Number.NaN : Number(bytes.toString("latin1", at, colon))
  return length >= 0 ? colon + 1 + length : Number.NaN
}

const textOf = (text: string | number): string => `${Buffer.byteLength(String(text))}:${text}`

/** A row of texts, as `readTexts` reads it. */
export const textsOf = (...texts: ReadonlyArray<string | number>): string => texts.map(textOf).join("")

/** Reads a row of texts, each written as its length in bytes, a colon, and itself. */
export const readTexts = (bytes: Buffer): ReadonlyArray<string> => {
  const texts: Array<string> = []
  let at = 0
  while (at < bytes.length) {
    const end = textEnd(bytes, at)
    // the rest is no row
    if (Number.isNaN(end)) break
    texts.push(bytes.toString("utf8", bytes.indexOf(58, at) + 1, end))
    at = end
  }
  return texts
}

// the furthest that a date can be from the epoch
const longest = 8.64e15

/** A time; 0 for what is none, because it is further. */
export const timeOf = (value: number): number => Math.abs(value) <= longest ? value : 0

/** Why something is struck, and by whom if that is known. */
export const struckBy = (reason: string, author: string) => ({ reason, ...author !== "" && { author } })
