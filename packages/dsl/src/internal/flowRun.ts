/**
 * Runs of a flow: what is stored of them, and how one goes from a place in the graph to its next step.
 *
 * A flow is one run that goes from step to step under its key: the settlement of a step and the next step are one write of
 * one record. Each branch of a fan-out is a run of its own, which reports to the run that it left.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Result from "effect/Result"
import type { DocketError } from "../DocketError.ts"
import type * as Task from "../Task.ts"
import * as TaskFailure from "../TaskFailure.ts"
import { andThen, codec, known } from "./codec.ts"
import type { Blame, Graph, Signal, Source, Stop, Trail, Undo } from "./flowGraph.ts"
import * as graph from "./flowGraph.ts"
import { encodeFailure, failureOf, inputCodec, type Place, valueAt, valueOf } from "./flowValue.ts"
import { gatesOf } from "./gates.ts"
import { isLonger } from "./key.ts"
import type { Resolved } from "./options.ts"
import type { Due, EncodedAddition, EncodedGates, EncodedParent, EncodedThread } from "./wire.ts"

// ---------------------------------------------------------------------------------------------------------------------
// states
// ---------------------------------------------------------------------------------------------------------------------

/** Why a flow ends. */
export type Ending =
  | { readonly t: "cancelled" }
  | { readonly t: "failed"; readonly blame: Blame }

/** Where a run stands. */
export type At =
  /** At a task. */
  | { readonly t: "step"; readonly p: string }
  /** On its way from where a value came from; it has slept at `past`, and left members to be cancelled at `rest`. */
  | {
    readonly t: "go"
    readonly from: Source
    readonly past?: string | undefined
    readonly rest?: Extract<At, { readonly t: "fan" }>
  }
  /** It cannot go on. */
  | { readonly t: "stuck"; readonly blame: Blame }
  /** At a gather of `n` members, of which so many have been added. */
  | {
    readonly t: "fan"
    readonly p: string
    readonly from: Source
    readonly id: string
    readonly n: number
    readonly next: number
    readonly until?: number | undefined
    /** When those that are added bit by bit began to be scattered. */
    readonly since?: number | undefined
    /** Members from this one on are to be tried again if they did not succeed. */
    readonly retry?: number | undefined
    /** How many of those are known to have succeeded or failed before. */
    readonly ahead?: { readonly succeeded: number; readonly failed: number } | undefined
  }
  /** It begins again, with its first input. */
  | { readonly t: "restart" }
  /**
   * The members of a gather were cancelled, or are to be (`cancels`), and end. Then the flow ends as well, or there is a failure
   * behind `raise`, which something may catch.
   */
  | {
    readonly t: "drain"
    readonly fan: Extract<At, { readonly t: "fan" }>
    readonly cancels?: true
    readonly raise?: string | undefined
    readonly why: Ending
  }
  /** Compensation number `i` runs. */
  | { readonly t: "undo"; readonly i: number; readonly why: Ending }

/** A state, read. */
export interface State {
  /** The chain that is the whole of this run. */
  readonly root: string
  /** The key of the flow, if this is a run of one of its branches. */
  readonly flowKey: string | undefined
  /** How often it has begun again. */
  readonly round: number
  readonly at: At
  readonly trail: Trail
  /** It is about to be added: its limits count from when it is due. */
  readonly isNew?: true
}

interface Written {
  readonly s?: string
  readonly k?: string
  readonly r?: number
  readonly x: At
  readonly d?: 1
  readonly l?: ReadonlyArray<readonly [string, number]>
  readonly u?: ReadonlyArray<Undo>
  readonly n?: ReadonlyArray<readonly [string, Source]>
  readonly c?: ReadonlyArray<string>
}

const write = ({ at, flowKey, isNew, root, round, trail }: State): string => {
  const { chosen, inputs, limits, undo } = trail
  const written: Written = {
    x: at,
    ...root !== "" && { s: root },
    ...flowKey !== undefined && { k: flowKey },
    ...round > 0 && { r: round },
    ...limits.size > 0 && { l: [...limits] },
    ...limits.size > 0 && isNew && { d: 1 },
    ...undo.length > 0 && { u: undo },
    ...inputs.size > 0 && { n: [...inputs] },
    ...chosen.length > 0 && { c: chosen }
  }
  return JSON.stringify(written)
}

/** The state that was read last: the members of a fan-out, which come one after the other, are all in the same. */
let latest: { readonly text: string; readonly state: State } | undefined

/**
 * Reads the state of a run. The limits of one that has just been added count from when it is due: that is when its
 * deadline is, less the earliest of them.
 */
export const read = ({ deadline, state: text }: Pick<EncodedThread, "deadline" | "state">): State => {
  if (latest?.text === text) return latest.state
  const state = readFresh(text, deadline)
  if (deadline === undefined) latest = { text, state }
  return state
}

const readFresh = (state: string, deadline: number | undefined): State => {
  const { c = [], d, k, l = [], n = [], r = 0, s = "", u = [], x } = JSON.parse(state) as Written // written above
  if (typeof (x as Partial<At> | undefined)?.t !== "string") throw new Error("its state is not that of a run of a flow")
  const since = d === 1 && deadline !== undefined ? deadline - Math.min(...l.map(([, at]) => at)) : 0
  return {
    root: s,
    flowKey: k,
    round: r,
    at: x,
    trail: {
      limits: new Map(l.map(([path, at]) => [path, at + since])),
      undo: [...u],
      inputs: new Map(n),
      chosen: [...c],
      unknown: []
    }
  }
}

/** The state of a run; `undefined` if what is stored is none. */
export const tryRead = (stored: Pick<EncodedThread, "deadline" | "state">): State | undefined =>
  Result.getOrUndefined(Result.try(() => read(stored)))

/** A run that failed at a task is tried again: its limits count anew. */
export const afresh = (stored: EncodedThread): EncodedThread => {
  const state = read(stored)
  // the limits that it had when it began are not known here: it has none
  return { ...stored, state: write({ ...state, trail: { ...state.trail, limits: new Map() } }), deadline: undefined }
}

/** A flow that failed goes on where it failed: see `Docket.redrive`. Its limits count from when it is due again. */
export const redriven = (flow: Graph, stored: EncodedThread): EncodedThread => {
  const state = read(stored)
  const { at, trail } = state
  if (at.t === "undo") {
    return thread(flow, { ...state, at: { t: "restart" }, trail: { ...graph.trail(), inputs: trail.inputs } })
  }
  const limits = new Map(Array.from(trail.limits.keys(), (path) => {
    const [node] = flow.at(path)
    return [path, node._tag === "Deadline" ? node.limit : 0] as const // all limits are those of such nodes
  }))
  const fan = at.t === "drain" ? at.fan : at
  const next: At = fan.t === "fan" ? { ...fan, retry: 0, ahead: undefined } : fan
  return thread(flow, { ...state, at: next, trail: { ...trail, limits }, isNew: true })
}

/** Whether a run is at a task, and not between two of them. */
export const isAtTask = (stored: EncodedThread): boolean => read(stored).at.t === "step"

/** What names a step of a flow to the world: the key of its run and its place, another one each time around. */
export const stepKey = (key: string, { deadline, state, step }: EncodedThread): string => {
  const round = tryRead({ deadline, state })?.round ?? 0
  return `${key}/${step}${round === 0 ? "" : `~${round}`}`
}

/** What a store keeps of a state. `until` is a deadline beside those of its limits. */
export const thread = (
  { name, version }: Pick<Graph, "name" | "version">,
  state: State,
  until?: number | undefined
): EncodedThread => {
  const { at, trail: { limits, undo } } = state
  const ending = at.t === "drain" || at.t === "undo"
  // a failure behind members that are ending may still be caught
  const mayGoOn = at.t === "drain" && at.raise !== undefined
  const earliest = Math.min(until ?? Infinity, ...limits.values())
  return {
    flow: name,
    version,
    step: "p" in at ? at.p : undefined,
    state: write(state),
    deadline: ending || earliest === Infinity ? undefined : earliest,
    onCancel: mayGoOn || (!ending && (undo.length > 0 || at.t === "fan")) ? "interpret" : ending ? "ignore" : "end"
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// going on
// ---------------------------------------------------------------------------------------------------------------------

/** A step as it is stored. */
export interface Step {
  readonly task: string
  readonly version: number
  readonly lane: string
  readonly priority: number
  readonly payload: string
  readonly gates: EncodedGates | undefined
}

/** Where a run can be taken up again: the last place that is stored, and what had been passed there. */
export interface Origin {
  readonly at: Extract<At, { readonly t: "go" }>
  readonly trail: Trail
}

/** Where a run goes. */
export type Next =
  | {
    readonly _tag: "Step"
    readonly path: string
    readonly task: Task.Any
    readonly step: Step
    /** The payload, decoded. */
    readonly value: unknown
    readonly delay: number
  }
  | { readonly _tag: "Wait"; readonly origin: Origin; readonly delay: number }
  | Extract<Stop, { readonly _tag: "Fan" | "End" | "Again" }>

/** Where a run goes, and from where it can be taken up again. */
export interface Way {
  readonly next: Next
  readonly trail: Trail
  readonly origin: Origin | undefined
}

/** A place, with the options of tasks. */
export interface World extends Place {
  readonly optionsOf: (task: Task.Any) => Resolved
}

/** A step with this input, as it is stored. A message if the input does not fit, or a function of the task throws. */
const encodeStep = (
  world: World,
  task: Task.Any,
  input: unknown
): Effect.Effect<{ readonly step: Step; readonly value: unknown }, string> =>
  andThen(codec(task).encodePayload(input), ({ json, value }) => {
    const { gates, lane, maxBytes, priority, version } = world.optionsOf(task)
    if (isLonger(json, maxBytes)) return Exit.fail(`it has more than the ${maxBytes} bytes that \`maxBytes\` allows`)
    const step = Result.try((): Step => {
      // a step is no addition: it does not settle, and it neither waits for a cooldown nor begins one
      const { cooldown: _, debounce: __, ...rest } = gates === undefined ? {} : gatesOf(task._tag, gates, value) ?? {}
      return {
        task: task._tag,
        version,
        lane,
        priority: typeof priority === "number" ? priority : priority(value as never), // made for it
        payload: json,
        gates: Object.keys(rest).length === 0 ? undefined : rest
      }
    })
    return Result.isSuccess(step)
      ? Exit.succeed({ step: step.success, value })
      : Exit.fail(`its priority or a gate cannot be computed: ${String(step.failure)}`)
  })

/** Where a walk begins: in the graph, or at what it would have stopped at. */
export type Start = (Parameters<Graph["walk"]>[0] | { readonly stop: Stop }) & {
  /** It begins inside of chains that begin as well: from this one to that of the node at `path`. */
  readonly begins?: { readonly into: string; readonly path: string }
}

/** Whether something that can be undone has been passed since, or the end of a limit. */
const hasPassed = (before: Trail, after: Trail): boolean =>
  after.undo.length > before.undo.length || Array.from(before.limits.keys()).some((path) => !after.limits.has(path))

/**
 * Walks until the world is needed. Inputs of chains are encoded on the way, and a sleep before a step is its delay, unless
 * something is passed in between that would not be so before.
 */
export const go = Effect.fnUntraced(function*(
  world: World,
  start: Start,
  { after = 0, now, root, trail: before }: {
    readonly now: number
    readonly root: string
    readonly trail: Trail
    /** How long it waits before it begins. */
    readonly after?: number
  }
): Effect.fn.Return<Way> {
  let passed = before
  let delay = after
  let origin: Origin | undefined
  let slept: { readonly origin: Origin; readonly delay: number } | undefined
  const take = (from: Source | undefined, past?: string): void => {
    if (from === undefined) return
    origin = { at: { t: "go", from, ...past !== undefined && { past } }, trail: graph.trail(passed) }
    if (after > 0) slept ??= { origin, delay }
  }
  const walk = (start: Parameters<Graph["walk"]>[0]): Stop =>
    world.graph.walk(start, { now: now + delay, root, trail: passed })
  const fail = (path: string, message: string): Stop => {
    const reason = new TaskFailure.Undecodable({ message: `the input of its step at ${path}: ${message}` })
    return walk({ after: path, signal: { _tag: "Failure", error: failureOf(world, reason), blame: undefined } })
  }
  // named flows that begin here: the first thing that is stored is their input
  const keep = (from: Source): void => {
    for (const path of passed.unknown.splice(0)) passed.inputs.set(path, from)
  }
  if (start.begins !== undefined) world.graph.begin(start.begins, now + delay, passed)
  if ("after" in start && start.signal._tag === "Value") take(start.signal.from)
  if ("into" in start) take(start.from)
  let stop = "stop" in start ? start.stop : walk(start)
  while (true) {
    // what is only true behind a sleep must not be so while it sleeps
    if (slept !== undefined && hasPassed(slept.origin.trail, passed)) {
      return { next: { _tag: "Wait", ...slept }, trail: slept.origin.trail, origin: slept.origin }
    }
    switch (stop._tag) {
      case "Task": {
        const { path, task } = stop
        const encoded = yield* Effect.result(encodeStep(world, task, stop.input))
        if (Result.isSuccess(encoded)) {
          keep({ p: path, i: encoded.success.step.payload })
          return { next: { _tag: "Step", path, task, ...encoded.success, delay }, trail: passed, origin }
        }
        stop = fail(path, encoded.failure)
        break
      }
      case "Input": {
        const { path } = stop
        const encoded = yield* Effect.result(inputCodec(stop.schema).encode(stop.input))
        if (Result.isFailure(encoded)) {
          stop = fail(path, encoded.failure)
          break
        }
        const { json, value } = encoded.success
        const from = { p: path, i: json }
        keep(from)
        take(from)
        stop = walk({ after: path, signal: { _tag: "Value", value, from } })
        break
      }
      case "Sleep": {
        delay += stop.after
        take(stop.from, stop.path)
        slept = origin && { origin, delay }
        passed = graph.trail(passed)
        stop = walk({ after: stop.path, signal: { _tag: "Value", value: stop.value, from: stop.from } })
        break
      }
      case "At":
        return yield* Effect.die(new Error("bug: nothing was looked for"))
      default:
        return delay > 0 && origin !== undefined
          ? { next: { _tag: "Wait", origin, delay }, trail: origin.trail, origin }
          : { next: stop, trail: passed, origin }
    }
  }
})

/** How a run that was on its way goes on. */
export const resume = (
  world: World,
  { from, past }: Extract<At, { readonly t: "go" }>,
  root: string
): Effect.Effect<Start, DocketError> =>
  Effect.map(
    past === undefined ? valueOf(world, from) : valueAt(world, from, { root, until: past }),
    (signal) => ({ after: past ?? from.p, signal })
  )

/** How a named flow begins again, with its first input. */
export const again = (
  world: World,
  flow: string,
  { inputs }: Trail,
  root: string
): Effect.Effect<Start, DocketError> => {
  const from = inputs.get(flow)
  const body = world.graph.body(flow)
  if (from === undefined) {
    return Effect.die(new Error(`the input of the flow at ${JSON.stringify(flow)} is not known`))
  }
  // what was stored first, or where its input came from
  return "i" in from && from.p.startsWith(body)
    ? Effect.map(valueOf(world, from), (signal): Start => {
      const [node] = world.graph.at(from.p)
      const begins = { into: body, path: from.p }
      return node._tag === "Task" && signal._tag === "Value"
        ? { stop: { _tag: "Task", path: from.p, task: node.task, input: signal.value }, begins }
        : { after: from.p, signal, begins }
    })
    : Effect.map(valueAt(world, from, { root, until: flow }), (signal): Start =>
      signal._tag === "Value"
        ? { into: body, value: signal.value, from: signal.from }
        : { after: flow, signal })
}

/** Where a run goes that begins with a chain. Its limits count from when it is due. */
export const first = (world: World, into: string, value: unknown): Effect.Effect<Way> => {
  const trail = graph.trail()
  if (into === "" && world.graph.keepsInput("")) trail.unknown.push("")
  return go(world, { into, value, from: undefined }, { now: 0, root: into, trail })
}

/** What the addition of a run has besides. */
type Rest = Pick<EncodedAddition, "due" | "key" | "onExisting" | "retention" | "trace">

/** The trail of a run that is due so much later than it begins: its limits count from when it is due. */
const delayed = (trail: Trail, delay: number): Trail => ({
  ...trail,
  limits: new Map(Array.from(trail.limits, ([path, at]) => [path, at - delay]))
})

const later = (due: Due, delay: number): Due => "at" in due ? { at: due.at + delay } : { after: due.after + delay }

/** The addition of a run that begins like this. */
export const addition = Effect.fnUntraced(function*(
  { graph }: World,
  { next, origin, trail }: Way,
  { flowKey, parent, root }: {
    readonly root: string
    readonly flowKey?: string | undefined
    readonly parent?: EncodedParent | undefined
  },
  rest: Rest
): Effect.fn.Return<EncodedAddition> {
  const threadOf = (at: At, trail: Trail) => ({
    ...thread(graph, { root, flowKey, round: 0, at, trail, isNew: true }),
    ...parent && { parent }
  })
  const between = { task: graph.name, version: graph.version, lane: "", priority: 0, payload: "null" }
  switch (next._tag) {
    case "Step": {
      const { gates, ...step } = next.step
      const due = later(rest.due, next.delay)
      const thread = threadOf({ t: "step", p: next.path }, delayed(trail, next.delay))
      return { ...rest, ...step, due, ...gates && { gates }, thread }
    }
    case "Wait":
      return {
        ...rest,
        ...between,
        due: later(rest.due, next.delay),
        thread: threadOf(next.origin.at, delayed(next.origin.trail, next.delay))
      }
    case "End":
      if (next.signal._tag === "Failure") {
        return { ...rest, ...between, thread: threadOf({ t: "stuck", blame: yield* blameOf(next.signal) }, trail) }
      }
  }
  // a chain begins with a task or an input
  return { ...rest, ...between, thread: threadOf(origin!.at, origin!.trail) }
})

/**
 * Begins members of a gather with a chain: each has an input, and what the addition of a run has besides. What is the same
 * for all of them is made once.
 */
export const members = (
  world: World,
  chain: string,
  flowKey: string
): (parent: EncodedParent, input: unknown, rest: Rest) => Effect.Effect<EncodedAddition> => {
  const { graph: flow } = world
  const begin = (parent: EncodedParent, input: unknown, rest: Rest): Effect.Effect<EncodedAddition> =>
    Effect.flatMap(
      first({ ...world, key: rest.key }, chain, input),
      (way) => addition(world, way, { root: chain, flowKey, parent }, rest)
    )
  const only = flow.only(chain)
  if (only === undefined) return begin
  const { path, task } = only
  const common = thread(flow, { root: chain, flowKey, round: 0, at: { t: "step", p: path }, trail: graph.trail() })
  return (parent, input, rest) => {
    const encoded = known(encodeStep(world, task, input))
    if (encoded === undefined) return begin(parent, input, rest)
    const { gates, ...step } = encoded.value.step
    return Exit.succeed({ ...rest, ...step, ...gates && { gates }, thread: { ...common, parent } })
  }
}

/** Whether a run is at the only task of its chain, and has passed nothing: with that it ends. */
export const isAtLast = (flow: Graph, { at, root, trail: { chosen, inputs, limits, undo } }: State): boolean =>
  at.t === "step" && flow.only(root)?.path === at.p && limits.size === 0 && undo.length === 0 && inputs.size === 0 &&
  chosen.length === 0

/** What is to blame for a failure: a step, or the flow itself. */
export const blameOf = (
  { blame, error }: Extract<Signal, { readonly _tag: "Failure" }>
): Effect.Effect<Blame> =>
  blame === undefined
    ? encodeFailure(error as TaskFailure.TaskFailure) // only the flow itself blames nobody
    : Effect.succeed(blame)
