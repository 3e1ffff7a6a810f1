/**
 * Keys: the limit on their length, and random ones for runs that were given none.
 *
 * A random key is a ULID (https://github.com/ulid/spec): 48 bits of time and 80 of chance, in the order of their times;
 * within a millisecond the chance part counts up, so that keys made one after the other ascend.
 */
import type * as Random from "effect/Random"

/** Longest key in UTF-8 bytes. Room for a URL or a path, small enough to be an index entry of every store. */
export const maxKeyBytes = 4096

/** Whether a text has more UTF-8 bytes than that; counts only where it could matter. */
export const isLonger = (text: string, most: number): boolean => {
  if (text.length * 3 <= most) return false
  if (text.length > most) return true
  let bytes = 0
  for (const character of text) {
    const code = character.codePointAt(0)!
    bytes += code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4
  }
  return bytes > most
}

/** Whether a key is longer than the limit. */
export const isTooLong = (key: string): boolean => isLonger(key, maxKeyBytes)

/** What is wrong with a key, whatever it was made of. */
export const complaintOf = (key: unknown): string | undefined => {
  if (typeof key !== "string") return `a key has to be a text, it is of type ${typeof key}`
  if (key === "") return "a key must not be empty"
  // UTF-8 has no bytes for it: two such keys would be the same
  return key.isWellFormed() ? undefined : "a key must not contain half of a surrogate pair"
}

const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
// two digits at a time: a key is made for every run that was given none
const pairs = Array.from({ length: 1024 }, (_, n) => alphabet[n >> 5]! + alphabet[n & 31]!)
const half = 2 ** 40

const base32 = (value: number, length: number): string => {
  let text = ""
  for (let i = 0; i < length; i += 2) {
    text = pairs[value % 1024]! + text
    value = Math.floor(value / 1024)
  }
  return text
}

/** Makes a generator of random keys. */
export const makeGenerator = (): (prefix: string, now: number, random: Random.Random) => string => {
  let time = -1
  let timeText = ""
  let high = 0
  let highText = ""
  let low = 0
  return (prefix, now, random) => {
    if (now === time && low < half - 1) {
      low++
    } else {
      if (now === time) high++
      else high = Math.floor(random.nextDoubleUnsafe() * half)
      low = Math.floor(random.nextDoubleUnsafe() * half)
      time = now
      timeText = base32(now, 10)
      highText = base32(high, 8)
    }
    return `${prefix}/${timeText}${highText}${base32(low, 8)}`
  }
}
