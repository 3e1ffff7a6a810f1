/**
 * What a run in memory has besides, if it is a part of a flow: where it stands, whom it tells, and what its members said.
 */
import type { Docket } from "@effect-docket/dsl"
import type { ClaimedThread } from "../../DocketStore.ts"
import type { Member } from "./heap.ts"
import type { Run } from "./run.ts"

/** How the members of one gather have ended. */
export class Gathered {
  readonly members = new Map<number, Docket.EncodedMember>()
  succeeded = 0
  failed = 0

  /** The first word counts. */
  add(index: number, member: Docket.EncodedMember): boolean {
    if (this.members.has(index)) return false
    this.members.set(index, member)
    if (member._tag === "Done") this.succeeded++
    else this.failed++
    return true
  }

  /** A member that had not succeeded is tried again. */
  forget(index: number): void {
    const member = this.members.get(index)
    if (member === undefined || member._tag === "Done") return
    this.members.delete(index)
    this.failed--
  }
}

/** The part of a flow that a run is. As a member of a heap it waits for its deadline. */
export class Part implements Member {
  readonly run: Run
  readonly parent: Docket.EncodedParent | undefined
  thread: Docket.EncodedThread
  /** How its step ended, until somebody has interpreted it. */
  exit: string | undefined = undefined
  stopped: ClaimedThread["stopped"] = undefined
  /** What it waits for. */
  waitsFor: Docket.EncodedGather | undefined = undefined
  /** What it waited for last. */
  last: string | undefined = undefined
  /** By the id of the gather. */
  gathered: Map<string, Gathered> | undefined = undefined
  heapIndex = -1

  constructor(run: Run, { parent, ...thread }: NonNullable<Docket.EncodedAddition["thread"]>) {
    this.run = run
    this.thread = thread
    this.parent = parent
  }

  /** What it has done may have to be undone when it is cancelled, or what its step has done that nobody has interpreted. */
  get isInterpretedOnCancel(): boolean {
    return this.thread.onCancel === "interpret" || (this.exit !== undefined && this.thread.onCancel === "end")
  }

  /** The flow at the top, of a member. */
  get flow(): Docket.EncodedFlow | undefined {
    return this.parent?.flow ?? this.parent
  }

  of(gather: string): Gathered {
    this.gathered ??= new Map()
    let gathered = this.gathered.get(gather)
    if (gathered === undefined) this.gathered.set(gather, gathered = new Gathered())
    return gathered
  }

  /** Forgets the gathers in a chain, or all. */
  forget(chain: string): void {
    for (const id of this.gathered?.keys() ?? []) {
      if (chain === "" || id.startsWith(`${chain}/`)) this.gathered!.delete(id)
    }
  }

  #countsOf(gather: string): { readonly failed: number; readonly succeeded: number } {
    const { failed, succeeded } = this.gathered?.get(gather) ?? { failed: 0, succeeded: 0 }
    return { failed, succeeded }
  }

  /** How many members of the gather that it waited for last have ended. */
  get counts(): ClaimedThread["gathered"] {
    return this.last === undefined ? undefined : this.#countsOf(this.last)
  }

  /** Whether enough members have ended. */
  get isGathered(): boolean {
    if (this.waitsFor === undefined) return false
    const { failed, succeeded } = this.#countsOf(this.waitsFor.id)
    return succeeded >= this.waitsFor.succeeded || failed >= this.waitsFor.failed ||
      succeeded + failed >= this.waitsFor.ended
  }
}
