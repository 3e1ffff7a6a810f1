/**
 * Text for a terminal: numbers, and names of files that may contain anything.
 */
export const number = (value: number): string => Math.round(value).toLocaleString("en-US")

const units = ["B", "kB", "MB", "GB", "TB"]

export const bytes = (value: number): string => {
  const power = Math.min(units.length - 1, value < 1 ? 0 : Math.floor(Math.log10(value) / 3))
  return `${(value / 1000 ** power).toFixed(power === 0 ? 0 : 1)} ${units[power]}`
}

export const plural = (count: number, one: string, many = `${one}s`): string =>
  `${number(count)} ${count === 1 ? one : many}`

export const bold = (text: string): string => `\u001b[1m${text}\u001b[22m`

// control characters, bidirectional overrides and lone surrogates would garble the screen
const unsafe = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu
const wide = /\p{Emoji_Presentation}|\p{sc=Han}|\p{sc=Hangul}|\p{sc=Hiragana}|\p{sc=Katakana}|[\uff01-\uff60]/u
const zero = /\p{M}/u

const widthOf = (character: string): number => zero.test(character) ? 0 : wide.test(character) ? 2 : 1

/** The text on one line of at most that many columns; the end is cut off. */
export const fit = (text: string, columns: number): string => {
  const characters = Array.from(text.replace(unsafe, "?"))
  const total = characters.reduce((sum, character) => sum + widthOf(character), 0)
  if (total <= columns) return characters.join("")
  let [used, kept] = [1, ""]
  for (const character of characters) {
    used += widthOf(character)
    if (used > columns) break
    kept += character
  }
  return `${kept}…`
}
