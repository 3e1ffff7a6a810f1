/**
 * What happened in a simulation, line by line: the same seed gives the same text.
 */

/** The lines. */
export class Trace {
  readonly #lines: Array<string> = []
  readonly #now: () => number

  constructor(now: () => number) {
    const begun = now()
    this.#now = () => now() - begun
  }

  add(who: string, what: string): void {
    this.#lines.push(`${String(this.#now()).padStart(9)} ${who.padEnd(4)} ${what}`)
  }

  get text(): string {
    return this.#lines.join("\n")
  }
}
