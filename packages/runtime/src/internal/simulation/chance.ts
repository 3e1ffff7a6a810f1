/**
 * Chance that a seed decides: each concern of a simulation has a generator of its own, so that leaving one of them out
 * changes nothing of the others.
 */
import type * as Random from "effect/Random"

/** The four words that a text is hashed to (cyrb128). */
const hash = (text: string): [number, number, number, number] => {
  let a = 1779033703
  let b = 3144134277
  let c = 1013904242
  let d = 2773480762
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    a = b ^ Math.imul(a ^ code, 597399067)
    b = c ^ Math.imul(b ^ code, 2869860233)
    c = d ^ Math.imul(c ^ code, 951274213)
    d = a ^ Math.imul(d ^ code, 2716044179)
  }
  return [a ^ b ^ c ^ d, b, c, d]
}

/** A generator of chance (sfc32). */
export class Chance implements Random.Random {
  #a: number
  #b: number
  #c: number
  #counter: number

  constructor(seed: number, concern: string) {
    ;[this.#a, this.#b, this.#c, this.#counter] = hash(`${seed}/${concern}`)
    for (let n = 0; n < 12; n++) this.nextDoubleUnsafe()
  }

  nextDoubleUnsafe(): number {
    const sum = (this.#a + this.#b + this.#counter) | 0
    this.#counter = (this.#counter + 1) | 0
    this.#a = this.#b ^ (this.#b >>> 9)
    this.#b = (this.#c + (this.#c << 3)) | 0
    this.#c = ((this.#c << 21) | (this.#c >>> 11)) + sum | 0
    return (sum >>> 0) / 4_294_967_296
  }

  nextIntUnsafe(): number {
    return Math.floor((this.nextDoubleUnsafe() - 0.5) * Number.MAX_SAFE_INTEGER)
  }

  /** A whole number from 0 on, below a limit. */
  below(limit: number): number {
    return Math.floor(this.nextDoubleUnsafe() * limit)
  }

  /** True that often. */
  happens(probability: number): boolean {
    return this.nextDoubleUnsafe() < probability
  }

  pick<A>(choices: ReadonlyArray<A>): A {
    return choices[this.below(choices.length)]! // nobody picks from nothing
  }
}
