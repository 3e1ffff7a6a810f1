/**
 * The gates of a docket in memory: who uses them, and who is held.
 *
 * A run is charged when it is claimed. Before that, as many are ready as a gate can let through, and the others are held:
 * in a heap that nobody looks at, so that they cost nothing while they wait. A gate that nobody uses, is ready for, or is
 * held by, is gone.
 *
 * Held runs of a group that have the same two gates are one queue, which is at the gate that refuses its first. Where the other
 * gate refuses that one, the queue goes there. Runs that went one by one cost a thousand moves per admitted run when
 * the gates took turns.
 */
import type { Docket } from "@effect-docket/dsl"
import type { GateLimits } from "../../DocketStore.ts"
import type { Group } from "./group.ts"
import { Heap } from "./heap.ts"
import type { Run } from "./run.ts"

/** The gates that hold runs. */
export const kinds = ["concurrency", "rateLimit"] as const

type Kind = typeof kinds[number] | "cooldown"

const cameBefore = (a: Run, b: Run): boolean => a.arrival < b.arrival

/** Held runs of a group that have the same two gates. */
export class Queue {
  /** Where it waits. */
  at: Waiting
  readonly held = new Heap<Run>(cameBefore)
  heapIndex = -1

  constructor(at: Waiting) {
    this.at = at
  }

  /** The run that it waits for: it has one whenever it is at a gate. */
  get first(): Run {
    return this.held.first!
  }
}

/** The runs of a group at a gate. Each group has its own limit, and workers that may be gone while those of others work. */
export class Waiting {
  readonly gate: Gate
  readonly group: Group
  /** How many are ready: places that are as good as taken. */
  ready = 0
  /** Held runs that have no other gate. */
  readonly held = new Heap<Run>(cameBefore)
  /** Queues of the others, made when the first one comes. */
  #queues: Heap<Queue> | undefined = undefined

  constructor(gate: Gate, group: Group) {
    this.gate = gate
    this.group = group
  }

  /** For whoever is held: where that is. */
  get at(): Waiting {
    return this
  }

  /** The held run that came first. */
  get first(): Run | undefined {
    const { first } = this.held
    const other = this.#queues?.first?.first
    if (first === undefined || other === undefined) return first ?? other
    return cameBefore(other, first) ? other : first
  }

  /** How many wait before a held run: of other queues, their first ones. */
  before(run: Run): number {
    const before = (runs: Iterable<Run>) => Array.from(runs).filter((other) => cameBefore(other, run)).length
    const queues = Array.from(this.#queues ?? [])
    return before(this.held) +
      queues.reduce((sum, { first, held }) => sum + before(run.heldIn?.held === held ? held : [first]), 0)
  }

  /** A queue comes. */
  park(queue: Queue): void {
    queue.at = this
    this.#queues ??= new Heap((a, b) => cameBefore(a.first, b.first))
    this.#queues.add(queue)
  }

  /** A queue goes, or its first run does. */
  unpark(queue: Queue): void {
    this.#queues!.remove(queue) // it has come
  }

  /** How many more may be ready. */
  room(now: number): number {
    return this.gate.free(this.group.limits, now) - this.ready
  }

  /** Whether it holds somebody who came before. */
  isBehind(run: Run): boolean {
    const { first } = this
    return first !== undefined && cameBefore(first, run)
  }

  /** Whether it lets a ready run wait for it: what it drops, it drops when it is claimed. */
  get drops(): boolean {
    return this.gate.kind === "rateLimit" && this.group.limits?.rateLimit?.drops === true
  }
}

/** What the runs with one value share. */
class Gate {
  readonly kind: Kind
  readonly text: string
  /** How many run. */
  used = 0
  /** When the runs of the current window started, from `first` on. */
  #starts: Array<number> = []
  #first = 0
  #window = 0
  /** When it is to be looked at. */
  at = Infinity
  /** The end of a cooldown. */
  until = 0
  heapIndex = -1
  readonly groups = new Map<Group, Waiting>()

  constructor(kind: Kind, text: string) {
    this.kind = kind
    this.text = text
  }

  of(group: Group): Waiting {
    let waiting = this.groups.get(group)
    if (waiting === undefined) this.groups.set(group, waiting = new Waiting(this, group))
    return waiting
  }

  /** How many more may run. */
  free(limits: GateLimits | undefined, now: number): number {
    if (this.kind === "concurrency") return (limits?.concurrency ?? Infinity) - this.used
    const rate = limits?.rateLimit
    if (rate === undefined) return Infinity
    this.#forget(now - Math.max(rate.window, this.#window))
    return rate.limit - (this.#starts.length - this.#firstAfter(now - rate.window))
  }

  /** The first start after a time: what is remembered longer is of a window that was, or is another's. */
  #firstAfter(time: number): number {
    let low = this.#first
    let high = this.#starts.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.#starts[middle]! <= time) low = middle + 1
      else high = middle
    }
    return low
  }

  start(limits: GateLimits | undefined, now: number): void {
    const window = limits?.rateLimit?.window
    if (window === undefined) return
    this.#window = Math.max(window, this.#window)
    // in order, also when the clock has gone back: until it has caught up, what started counts
    this.#starts.push(Math.max(now, this.#starts.at(-1) ?? now))
  }

  /** Forgets what started then or before. */
  #forget(time: number): void {
    while (this.#first < this.#starts.length && this.#starts[this.#first]! <= time) this.#first++
    if (this.#first * 2 < this.#starts.length) return
    this.#starts = this.#starts.slice(this.#first)
    this.#first = 0
  }

  /** When it is to be looked at: when it has a place again for somebody who waits, or when the last start is over. */
  next(now: number): number {
    this.#forget(now - this.#window)
    if (this.kind === "cooldown") return this.until > now ? this.until : Infinity
    const last = this.#starts.at(-1)
    let at = last === undefined ? Infinity : last + this.#window
    for (const { first, group } of this.groups.values()) {
      const window = group.limits?.rateLimit?.window
      const start = window === undefined || first === undefined
        ? undefined
        : this.#starts[this.#firstAfter(now - window)]
      if (start !== undefined) at = Math.min(at, start + window!)
    }
    return at
  }
}

/** What two gates of a run that can hold it are about; nothing if it has but one. */
const queueOf = ({ gates }: Run): string | undefined => {
  const { concurrency, rateLimit } = gates!
  return concurrency === undefined || rateLimit === undefined
    ? undefined
    : `${concurrency.length}:${concurrency}${rateLimit}`
}

/** The gates of a docket. */
export class Gates {
  readonly #gates: Readonly<Record<Kind, Map<string, Gate>>> = {
    concurrency: new Map(),
    rateLimit: new Map(),
    cooldown: new Map()
  }
  /** Pending runs that additions may join, when the first of them came, and whether that alone is what the run waits for. */
  readonly #settling = new Map<string, { readonly run: Run; readonly since: number; readonly waits: boolean }>()
  /** Those of a group, by what their two gates are about. */
  readonly #queues = new Map<Group, Map<string, Queue>>()
  readonly #looks = new Heap<Gate>((a, b) => a.at < b.at)
  /** Gates that may have room for somebody they hold. */
  readonly #touched = new Set<Gate>()

  /** How many gates are known, and queues at them. */
  get size(): number {
    const { concurrency, cooldown, rateLimit } = this.#gates
    let size = concurrency.size + rateLimit.size + cooldown.size + this.#settling.size
    for (const queues of this.#queues.values()) size += queues.size
    return size
  }

  /** When the next one is to be looked at. */
  get lookAt(): number {
    return this.#looks.first?.at ?? Infinity
  }

  /** How much they let through may have changed for some groups. */
  changed(groups: ReadonlyArray<Group>): void {
    if (groups.every(({ held }) => held === 0)) return
    for (const kind of kinds) {
      for (const gate of this.#gates[kind].values()) {
        if (groups.some((group) => gate.groups.has(group))) this.#touched.add(gate)
      }
    }
  }

  /** The time has come to look at some, a batch of them. */
  look(now: number, most: number): void {
    for (let n = 0; n < most && this.lookAt <= now; n++) {
      const gate = this.#looks.first!
      this.#lookAt(gate, Infinity)
      this.#touched.add(gate)
    }
  }

  #lookAt(gate: Gate, at: number): void {
    if (gate.at === at) return
    if (gate.at < Infinity) this.#looks.remove(gate)
    gate.at = at
    if (at < Infinity) this.#looks.add(gate)
  }

  #get(kind: Kind, text: string): Gate {
    let gate = this.#gates[kind].get(text)
    if (gate === undefined) this.#gates[kind].set(text, gate = new Gate(kind, text))
    return gate
  }

  *#of(run: Run): Iterable<Gate> {
    for (const kind of kinds) {
      const text = run.gates?.[kind]
      if (text !== undefined) yield this.#get(kind, text)
    }
  }

  /** Whether additions about this text are ignored. */
  isCooling(text: string | undefined, now: number): boolean {
    return text !== undefined && (this.#gates.cooldown.get(text)?.until ?? 0) > now
  }

  /** The pending run that an addition joins, and when it is due then. */
  joined(debounce: Docket.EncodedDebounce, now: number): { readonly run: Run; readonly due: number } | undefined {
    const known = this.#settling.get(debounce.about)
    return known && { run: known.run, due: Math.min(now + debounce.for, known.since + (debounce.max ?? Infinity)) }
  }

  /** Additions may join a run from now on. */
  settle(run: Run, waits: boolean, now: number): void {
    const debounce = run.gates?.debounce
    if (debounce !== undefined) this.#settling.set(debounce.about, { run, since: now, waits })
  }

  /** An addition has joined it. */
  joins(run: Run, waits: boolean): void {
    const { about } = run.gates!.debounce!
    this.#settling.set(about, { ...this.#settling.get(about)!, waits })
  }

  /** Whether a scheduled run would be due if it were not debounced. */
  isSettling(run: Run): boolean {
    const about = run.gates?.debounce?.about
    const known = about === undefined ? undefined : this.#settling.get(about)
    return known?.run === run && known.waits
  }

  /** A run has begun, or is gone: the next addition is one of its own. */
  settled(run: Run): void {
    const about = run.gates?.debounce?.about
    if (about !== undefined && this.#settling.get(about)?.run === run) this.#settling.delete(about)
  }

  /**
   * A run that is due wants to be ready. `false`: it is held, behind those that came before it. One that its worker gave back
   * comes before those that have its place by now: it is ready besides them.
   */
  enter(run: Run, isBack: boolean, now: number): boolean {
    const from = run.heldIn?.at
    run.heldIn = undefined
    for (const gate of this.#of(run)) {
      const waiting = gate.of(run.group)
      if (waiting.drops) continue
      if ((waiting === from || !waiting.isBehind(run)) && (isBack || waiting.room(now) > 0)) continue
      this.#hold(run, waiting)
      // those that would have let it pass may be new, and unused
      for (const other of this.#of(run)) this.#touched.add(other)
      return false
    }
    for (const gate of this.#of(run)) gate.of(run.group).ready++
    return true
  }

  /** The gate that does not let a ready run pass, if there is one. */
  refusing(run: Run, limits: GateLimits | undefined, now: number): Gate | undefined {
    for (const gate of this.#of(run)) {
      if (gate.free(limits, now) <= 0) return gate
      const waiting = gate.of(run.group)
      // when it became ready, more were let through
      if (waiting.isBehind(run) && !waiting.drops) return gate
    }
    return undefined
  }

  /** Holds a run that was refused. */
  hold(run: Run, gate: Gate): void {
    this.#hold(run, gate.of(run.group))
  }

  #hold(run: Run, waiting: Waiting): void {
    const id = queueOf(run)
    if (id === undefined) {
      run.heldIn = waiting
      waiting.held.add(run)
      return
    }
    let queues = this.#queues.get(run.group)
    if (queues === undefined) this.#queues.set(run.group, queues = new Map())
    const known = queues.get(id)
    const queue = known ?? new Queue(waiting)
    if (known === undefined) queues.set(id, queue)
    run.heldIn = queue
    if (known !== undefined && cameBefore(known.first, run)) return queue.held.add(run)
    // what is refused now is its first
    if (known !== undefined) known.at.unpark(known)
    queue.held.add(run)
    waiting.park(queue)
  }

  /** A run begins, or is claimed to be dropped. */
  charge(run: Run, limits: GateLimits | undefined, isDropped: boolean, now: number): void {
    this.settled(run)
    const cooldown = run.gates?.cooldown
    // before its first attempt: what comes later is the same run
    if (cooldown !== undefined && limits?.cooldown !== undefined && run.attempt + run.lost === 0 && !isDropped) {
      const gate = this.#get("cooldown", cooldown)
      // in a scope another task may have said that it is longer
      gate.until = Math.max(gate.until, now + limits.cooldown)
      this.#touched.add(gate)
    }
    for (const gate of this.#of(run)) {
      if (gate.kind === "concurrency") gate.used++
      else if (!isDropped) gate.start(limits, now)
      // its limit may be greater than the one that it was held by
      this.#touched.add(gate)
    }
  }

  /** A run is not ready any more. */
  leftReady(run: Run): void {
    for (const gate of this.#of(run)) {
      gate.of(run.group).ready--
      this.#touched.add(gate)
    }
  }

  /** A run is not running any more. */
  leftRunning(run: Run): void {
    const text = run.gates?.concurrency
    if (text === undefined) return
    // of the others nothing changes, and they may be gone by now
    const gate = this.#get("concurrency", text)
    gate.used--
    this.#touched.add(gate)
  }

  /** A run is not held any more. */
  leftHeld(run: Run): void {
    const { at, held } = run.heldIn!
    this.#touched.add(at.gate)
    if (!(run.heldIn instanceof Queue) || run !== held.first) return held.remove(run)
    at.unpark(run.heldIn)
    held.remove(run)
    if (held.size > 0) return at.park(run.heldIn)
    const queues = this.#queues.get(run.group)!
    queues.delete(queueOf(run)!)
    if (queues.size === 0) this.#queues.delete(run.group)
  }

  /** Takes held runs out as far as there is room for them, at most so many; whether there may be more. */
  admit(now: number, most: number, admit: (run: Run) => void): boolean {
    let left = most
    for (const gate of this.#touched) {
      for (const waiting of gate.groups.values()) {
        for (let { first } = waiting; first !== undefined; { first } = waiting) {
          if (!waiting.drops && waiting.room(now) <= 0) break
          if (left-- === 0) return true
          admit(first)
        }
        if (waiting.ready === 0 && waiting.first === undefined) gate.groups.delete(waiting.group)
      }
      this.#lookAt(gate, gate.next(now))
      if (gate.used === 0 && gate.groups.size === 0 && gate.at === Infinity) this.#gates[gate.kind].delete(gate.text)
      this.#touched.delete(gate)
    }
    return false
  }
}
