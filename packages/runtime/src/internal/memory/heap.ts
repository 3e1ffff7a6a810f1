/**
 * A binary heap whose members know their place in it, so that one is taken out of the middle at once.
 */

/** What can be in a heap, in one at a time. */
export interface Member {
  heapIndex: number
}

/** A heap in the order of `isBefore`. */
export class Heap<A extends Member> {
  readonly #isBefore: (a: A, b: A) => boolean
  readonly #members: Array<A> = []

  constructor(isBefore: (a: A, b: A) => boolean) {
    this.#isBefore = isBefore
  }

  get first(): A | undefined {
    return this.#members[0]
  }

  get size(): number {
    return this.#members.length
  }

  [Symbol.iterator](): Iterator<A> {
    return this.#members.values()
  }

  add(member: A): void {
    this.#members.push(member)
    this.#rise(member, this.#members.length - 1)
  }

  remove(member: A): void {
    const index = member.heapIndex
    member.heapIndex = -1
    const last = this.#members.pop()!
    if (last === member) return
    this.#sink(last, index)
    if (last.heapIndex === index) this.#rise(last, index)
  }

  #rise(member: A, index: number): void {
    while (index > 0) {
      const parentIndex = (index - 1) >> 1
      const parent = this.#members[parentIndex]!
      if (!this.#isBefore(member, parent)) break
      this.#put(parent, index)
      index = parentIndex
    }
    this.#put(member, index)
  }

  #sink(member: A, index: number): void {
    const size = this.#members.length
    while (true) {
      let childIndex = 2 * index + 1
      if (childIndex >= size) break
      if (childIndex + 1 < size && this.#isBefore(this.#members[childIndex + 1]!, this.#members[childIndex]!)) {
        childIndex++
      }
      const child = this.#members[childIndex]!
      if (!this.#isBefore(child, member)) break
      this.#put(child, index)
      index = childIndex
    }
    this.#put(member, index)
  }

  #put(member: A, index: number): void {
    this.#members[index] = member
    member.heapIndex = index
  }
}
