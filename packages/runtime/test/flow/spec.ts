/**
 * Random flows as data: what the definition (`definition.ts`) and the direct evaluation (`FlowModel.ts`) are both made of.
 *
 * A list of numbers decides everything, so that a shorter list with smaller numbers is a smaller flow: each choice that is
 * not there any more is the simplest one.
 */

/** A chain: what it begins with, and what comes after that, in its order. */
export interface Chain {
  readonly start: Start
  readonly steps: ReadonlyArray<Step>
}

export type TaskName = "Work" | "Flaky" | "Decide"

export type Start =
  /** `raw`: it gets the value as it is, and not what a function makes of it. */
  | { readonly _tag: "Task"; readonly id: number; readonly task: TaskName; readonly raw: boolean }
  | { readonly _tag: "Input"; readonly id: number }
  | { readonly _tag: "Named"; readonly id: number; readonly chain: Chain }

/** Milliseconds, or computed from the value. */
export interface Wait {
  readonly id: number
  readonly computed: boolean
}

export type Policy =
  | { readonly _tag: "AllSucceed" }
  | { readonly _tag: "AllSettled" }
  | { readonly _tag: "Quorum"; readonly atLeast: number }

export interface ForEach {
  readonly _tag: "ForEach"
  readonly id: number
  readonly chain: Chain
  readonly count: number
  readonly policy: Policy
  readonly over: number | undefined
  readonly jitter: number | undefined
  readonly concurrency: number | undefined
  readonly deadline: number | undefined
  readonly onRelease: "cancelRest" | "letRun"
  /** Whether the list is computed by the option `items`, or is the value. */
  readonly computed: boolean
}

export type Step =
  | { readonly _tag: "Then"; readonly id: number; readonly chain: Chain; readonly mapped: boolean }
  | { readonly _tag: "Map"; readonly id: number; readonly throws: boolean }
  | { readonly _tag: "Sleep"; readonly wait: Wait }
  | { readonly _tag: "Match"; readonly id: number; readonly even: Chain; readonly odd: Chain }
  | { readonly _tag: "When"; readonly id: number; readonly chain: Chain }
  | { readonly _tag: "All" | "Outcomes"; readonly branches: ReadonlyArray<Chain> }
  | ForEach
  | {
    readonly _tag: "Catch"
    readonly id: number
    readonly handlers: ReadonlyArray<readonly [tag: ErrorTag, chain: Chain]>
    /** `catchTag` with a function. */
    readonly mapped: boolean
  }
  | { readonly _tag: "Compensate"; readonly id: number; readonly chain: Chain; readonly mapped: boolean }
  | { readonly _tag: "Deadline"; readonly limit: number }
  /** Runs the named flow around it again while rounds are left, with an input that has one less. */
  | { readonly _tag: "Rounds"; readonly wait: Wait }
  /** Asks a task, which says so as often as `times`, and runs the named flow around it again with its first input. */
  | { readonly _tag: "Poll"; readonly id: number; readonly times: number; readonly wait: Wait }

export type ErrorTag = "Boom" | "Bang" | "TaskFailure"

/** A flow, and what its bodies do. */
export interface Spec {
  readonly name: string
  readonly chain: Chain
  readonly input: { readonly n: number; readonly r: number }
  /** Ids from here on belong to it. */
  readonly base: number
  /** How many bodies of 100 do not succeed at once. */
  readonly bad: number
  /**
   * Its bodies take no time, but for those of compensations. What is then decided in one moment has no order that could be
   * foretold: it has no gather that is over before all of its members are.
   */
  readonly instant: boolean
  /** When somebody cancels it, in milliseconds after its start. */
  readonly cancelAt: number | undefined
}

/** A number from these parts, the same each time. */
export const hash = (...parts: ReadonlyArray<number | string>): number => {
  let h = 0x811c9dc5
  for (const part of parts) {
    const text = String(part)
    for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193)
    h = Math.imul(h ^ 0x7c, 0x01000193)
  }
  h = Math.imul(h ^ (h >>> 15), 0x2c1b3c6d)
  h = Math.imul(h ^ (h >>> 12), 0x297a2d39)
  return (h ^ (h >>> 15)) >>> 0
}

/** Unlike any other time, so that no two things happen at once: 15 minutes to three hours. */
export const timeOf = (...parts: ReadonlyArray<number | string>): number => 900_000 + hash("time", ...parts) % 9_999_991

/** Long enough never to pass. */
export const long = 3_000_000_000

// ---------------------------------------------------------------------------------------------------------------------
// choices
// ---------------------------------------------------------------------------------------------------------------------

/** Where a chain stands. */
interface Place {
  readonly depth: number
  /** It runs again as a whole with the named flow around it. */
  readonly again: boolean
  /** It is run beside others, by a gather that may be over before it is: it begins with a task of its own. */
  readonly member: boolean
  /** A task comes before it. */
  readonly begun: boolean
  /** Several of it begin at once: a limit would end all of them at once. */
  readonly alike: boolean
}

class Choices {
  readonly #choices: ReadonlyArray<number>
  #at = 0
  #id: number
  readonly instant: boolean

  constructor(choices: ReadonlyArray<number>, id: number) {
    this.#choices = choices
    this.#id = id
    this.instant = this.one(6) === 5
  }

  /** A number below `n`; 0 when the list has ended. */
  one(n: number): number {
    const choice = this.#choices[this.#at++] ?? 0
    // numbers as they are generated are often near a bound
    return (choice < 16 ? choice : hash("choice", choice)) % n
  }

  /** One of a list, the first when the list of choices has ended. */
  of<A>(list: ReadonlyArray<A>): A {
    return list[this.one(list.length)]!
  }

  get id(): number {
    return ++this.#id
  }

  get isOver(): boolean {
    return this.#at >= this.#choices.length
  }

  wait(): Wait {
    return { id: this.id, computed: this.one(2) === 1 }
  }

  start(place: Place): Start {
    const kinds = place.member
      ? ["Task"] as const
      : place.depth > 0
      ? ["Task", "Task", "Raw", "Input", "Named"] as const
      : ["Task", "Raw", "Input"] as const
    const kind = this.of(kinds)
    const { id } = this
    switch (kind) {
      case "Input":
        return { _tag: "Input", id }
      case "Named":
        return { _tag: "Named", id, chain: this.chain({ ...place, depth: place.depth - 1, again: true }) }
      default:
        return {
          _tag: "Task",
          id,
          task: this.of(["Work", "Work", "Flaky", "Decide"]),
          raw: kind === "Raw"
        }
    }
  }

  chain(place: Place): Chain {
    const start = this.start(place)
    const steps: Array<Step> = []
    let begun = place.begun || start._tag === "Task"
    const most = place.depth >= 4 ? 8 : place.depth >= 1 ? 4 : 1
    for (let n = Math.max(this.one(most + 1), this.one(most + 1)); n > 0 && !this.isOver; n--) {
      const step = this.step({ ...place, depth: place.depth - 1, begun })
      steps.push(step)
      if (step._tag === "Poll" || (step._tag === "Then" && step.chain.start._tag === "Task")) begun = true
    }
    return { start, steps }
  }

  step(place: Place): Step {
    const { id } = this
    // who is in a chain of its own may be given back to its parent, and then nothing runs again with it
    const inside: Place = { ...place, member: false, alike: false }
    const member: Place = { ...inside, member: true, again: false, begun: true }
    const kinds: Array<Step["_tag"]> = ["Then", "Map", "Sleep", "Deadline"]
    if (place.depth > 0) {
      kinds.push(
        "Then",
        "Match",
        "When",
        "Catch",
        "Catch",
        "Compensate",
        "Compensate",
        "Outcomes",
        "ForEach",
        "ForEach"
      )
      if (!this.instant) kinds.push("All", "All", "ForEach")
    }
    if (place.again) kinds.push("Rounds", "Poll")
    const kind = this.of(kinds)
    switch (kind) {
      case "Then":
        return { _tag: kind, id, chain: this.chain(inside), mapped: this.one(2) === 1 }
      case "Map":
        return { _tag: kind, id, throws: place.begun && this.one(8) === 7 }
      case "Sleep":
        return { _tag: kind, wait: this.wait() }
      case "Match":
        return { _tag: kind, id, even: this.chain(inside), odd: this.chain(inside) }
      case "When":
        return { _tag: kind, id, chain: this.chain(inside) }
      case "All":
      case "Outcomes":
        return { _tag: kind, branches: Array.from({ length: this.one(4) }, () => this.chain(member)) }
      case "ForEach":
        return this.forEach(id, member)
      case "Catch": {
        const tags: ReadonlyArray<ErrorTag> = this.of([
          ["Boom"],
          ["Bang"],
          ["TaskFailure"],
          ["Boom", "Bang"],
          ["Boom", "Bang", "TaskFailure"]
        ])
        return {
          _tag: kind,
          id,
          handlers: tags.map((tag) => [tag, this.chain({ ...inside, begun: true })] as const),
          mapped: this.one(2) === 1
        }
      }
      case "Compensate":
        return {
          _tag: kind,
          id,
          chain: this.chain({ ...member, depth: Math.min(1, place.depth) }),
          mapped: this.one(2) === 1
        }
      case "Deadline":
        return {
          _tag: kind,
          limit: this.one(3) === 0 || place.alike ? long + id : timeOf("limit", id) * (1 + this.one(3))
        }
      case "Rounds":
        return { _tag: kind, wait: this.wait() }
      case "Poll":
        return { _tag: kind, id, times: this.one(3), wait: this.wait() }
    }
  }

  forEach(id: number, member: Place): ForEach {
    const count = this.of([2, 0, 1, 3, 4, 6])
    const policy: Policy = this.instant
      ? { _tag: "AllSettled" }
      : this.of<Policy>([
        { _tag: "AllSucceed" },
        { _tag: "AllSettled" },
        { _tag: "Quorum", atLeast: 1 },
        { _tag: "Quorum", atLeast: 1 + this.one(Math.max(1, count)) }
      ])
    const isShort = !this.instant && this.one(4) === 3
    const deadline = isShort ? timeOf("deadline", id) * 2 : policy._tag === "AllSucceed" ? undefined : long + id
    const concurrency = this.of([undefined, undefined, 1, 2, 3])
    const over = this.one(4) === 3 ? timeOf("over", id) : undefined
    return {
      _tag: "ForEach",
      id,
      chain: this.chain({ ...member, alike: true }),
      count,
      policy,
      over,
      jitter: over !== undefined && this.one(2) === 1 ? Math.floor(timeOf("jitter", id) / 7) : undefined,
      concurrency,
      deadline,
      onRelease: this.of(["letRun", "cancelRest"]),
      computed: this.one(2) === 1
    }
  }
}

/** The chains that a chain has inside. */
const inside = ({ start, steps }: Chain): ReadonlyArray<Chain> => [
  ...start._tag === "Named" ? [start.chain] : [],
  ...steps.flatMap((step) => {
    switch (step._tag) {
      case "Match":
        return [step.even, step.odd]
      case "All":
      case "Outcomes":
        return step.branches
      case "Catch":
        return step.handlers.map(([, chain]) => chain)
      default:
        return "chain" in step ? [step.chain] : []
    }
  })
]

/** The ids of the tasks in a chain. */
export const tasksIn = (chain: Chain): ReadonlyArray<number> => [
  ...chain.start._tag === "Task" ? [chain.start.id] : [],
  ...chain.steps.flatMap((step) => step._tag === "Poll" ? [step.id] : []),
  ...inside(chain).flatMap(tasksIn)
]

/** The ids of the tasks that undo something. */
export const undoingIn = (chain: Chain): ReadonlyArray<number> => [
  ...chain.steps.flatMap((step) => step._tag === "Compensate" ? tasksIn(step.chain) : []),
  ...inside(chain).flatMap(undoingIn)
]

/** The flows that a list of choices stands for: one to three. */
export const specsOf = (lists: ReadonlyArray<ReadonlyArray<number>>): ReadonlyArray<Spec> =>
  lists.map((list, index) => {
    const base = (index + 1) * 10_000
    const choices = new Choices(list, base)
    const { instant } = choices
    const bad = choices.of([0, 10, 25, 40, 60])
    const cancels = !instant && choices.one(5) === 4
    const input = { n: choices.one(1000), r: choices.one(3) }
    const chain = choices.chain({ depth: 4, again: true, member: false, begun: false, alike: false })
    // a flow without tasks cannot be started
    const start = { _tag: "Task", id: choices.id, task: "Work", raw: true } as const
    return {
      name: `F${index}`,
      chain: tasksIn(chain).length === 0 ? { ...chain, start } : chain,
      input,
      base,
      bad,
      instant,
      cancelAt: cancels ? timeOf("cancel", base, input.n) * (1 + choices.one(4)) : undefined
    }
  })
