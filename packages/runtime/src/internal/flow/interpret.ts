/**
 * The interpreter of flows: what is written when a step has ended, or when what a run was waiting for has come.
 *
 * ```
 *            step ended, slept, gathered             a failure that nothing catches, a cancel
 *  step ──────────────┬────────────────> step ──────────────┬─────────────────────────────> end
 *                     ├─ sleep ─> go ──┘                    └─> undo ─> undo ─> … ─────────┘
 *                     └─ fan-out ─> fan ── (drain) ──┘
 * ```
 *
 * It decides from the definition, from the state of the run and from what happened, and answers with one settlement: a
 * worker that dies at any point, before or after it, leaves a run that another one takes up where it was. Where members of a
 * gather are many, they are added and cancelled before that, in chunks: each of those writes may be repeated. Members that are
 * tried again are not: they come with settlements, some with each.
 */
import { type Docket, type DocketError, TaskFailure } from "@effect-docket/dsl"
import * as Interpreter from "@effect-docket/dsl/Interpreter"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Result from "effect/Result"
import type { Change, Claim, ClaimedThread, Destination } from "../../DocketStore.ts"
import { type Fan, retryRuleOf, type Rule, ruleOf, verdictOf, windowOf } from "./gather.ts"
import {
  type AtFan,
  buildMembers,
  cancelRest,
  chunk,
  collect,
  idOf,
  memberOf,
  membersOf,
  patience,
  type Run,
  spread
} from "./members.ts"
import type { FlowProgram } from "./program.ts"

const { chainOf, trail: trailFrom } = Interpreter.graph
const { again, blameOf, go, isAtLast, read, resume, thread: threadOf, tryRead } = Interpreter.threads
const { encodeFailure, failureOf, openIn, readBlame, readMembers, valueAt, valueOf, writeEnd } = Interpreter.values

type At = Interpreter.threads.At
type Blame = Interpreter.graph.Blame
type Ending = Interpreter.threads.Ending
type Signal = Interpreter.graph.Signal
type Start = Interpreter.threads.Start
type Source = Interpreter.graph.Source
type State = Interpreter.threads.State
type Trail = Interpreter.graph.Trail
type Undo = Interpreter.graph.Undo
type Way = Interpreter.threads.Way

/** What happened to a run. */
export type Happened =
  /** Its step ended, with this text. */
  | { readonly _tag: "Ended"; readonly signal: "Value"; readonly value: unknown; readonly exit: string }
  | { readonly _tag: "Ended"; readonly signal: "Failure"; readonly error: unknown; readonly exit: string }
  | { readonly _tag: "Cancelled" }
  | { readonly _tag: "Expired" }
  /** What it was waiting for has come. */
  | { readonly _tag: "Came" }

/** What is written. */
export interface Written {
  readonly change: Change
  readonly members?: ReadonlyArray<Docket.EncodedAddition> | undefined
}

// Members that are added with the settlement itself: all of such a fan-out is one write.
const together = 100

type Answer = Effect.Effect<Written, DocketError.DocketError>

/** What is written about a run when something has happened to it. `now` is the time of the store. */
export const interpret = (
  flow: FlowProgram,
  claim: Claim,
  thread: ClaimedThread,
  happened: Happened,
  now: number
): Answer => {
  const last = lastOf(flow, thread, happened)
  if (last !== undefined) return last
  return Effect.suspend(() => {
    const state = read(thread)
    const world: Interpreter.threads.World = {
      graph: flow.graph,
      key: claim.key,
      members: (gather, from, to) => Effect.retry(flow.store.members(claim.key, gather, from, to), patience),
      optionsOf: flow.optionsOf
    }
    return hear({ flow, claim, thread, state, world, now }, happened)
  })
}

/** What is written when the only task of a member has succeeded, which is the end of most members: nothing is to be decided. */
const lastOf = (
  { graph }: FlowProgram,
  thread: ClaimedThread,
  happened: Happened
): Exit.Exit<Written> | undefined => {
  if (thread.parent === undefined || happened._tag !== "Ended" || happened.signal !== "Value") return undefined
  const state = tryRead(thread)
  return state?.at.t === "step" && isAtLast(graph, state)
    ? Exit.succeed({
      change: { _tag: "Completed", exit: writeEnd({ from: { p: state.at.p, e: happened.exit }, undo: [] }) }
    })
    : undefined
}

const hear = (run: Run, happened: Happened): Answer => {
  const { at } = run.state
  return at.t === "go" && at.rest !== undefined
    ? Effect.andThen(cancelRest(run, at.rest), () => goOnFrom(run, happened))
    : goOnFrom(run, happened)
}

const goOnFrom = (run: Run, happened: Happened): Answer => {
  const { state: { at, root, trail }, world } = run
  switch (at.t) {
    case "stuck":
      return end(run, trail, { t: "failed", blame: at.blame })
    case "undo":
      return undo(run, trail, at.i - 1, at.why)
    case "drain":
      if (happened._tag === "Cancelled") return leave(run, at.fan, undefined, { t: "cancelled" })
      return at.cancels ? leave(run, at.fan, at.raise, at.why) : drained(run, at)
    case "restart":
      // a round of its own: what members of the one before have done is undone
      return restart(run, trail, { after: 0, flow: "", input: undefined })
    case "fan":
      return gather(run, at, happened)
  }
  if (happened._tag === "Cancelled" || happened._tag === "Expired") {
    if (at.t === "step" && run.thread.exit !== undefined) return stopBehind(run, at.p, run.thread.exit, happened)
    return happened._tag === "Cancelled" ? end(run, trail, { t: "cancelled" }) : expire(run)
  }
  if (happened._tag === "Ended") {
    const { p } = at as Extract<At, { readonly t: "step" }> // only a step ends
    const from = { p, e: happened.exit }
    return proceed(run, {
      after: p,
      signal: happened.signal === "Value"
        ? { _tag: "Value", value: happened.value, from }
        : { _tag: "Failure", error: happened.error, blame: from }
    }, trail)
  }
  return at.t === "go"
    ? Effect.flatMap(resume(world, at, root), (start) => proceed(run, start, trail))
    : Effect.flatMap(
      readBlame(world, { p: at.p, e: run.thread.exit ?? "" }),
      (signal) => proceed(run, { after: at.p, signal }, trail)
    )
}

// ---------------------------------------------------------------------------------------------------------------------
// going on
// ---------------------------------------------------------------------------------------------------------------------

const goOn = (
  run: Run,
  at: At,
  trail: Trail,
  to: Destination,
  rest?: {
    readonly members?: ReadonlyArray<Docket.EncodedAddition>
    readonly until?: number | undefined
    readonly round?: number
    readonly forget?: string
  }
): Written => {
  const state: State = { ...run.state, at, trail, round: rest?.round ?? run.state.round }
  return {
    change: {
      _tag: "Continue",
      thread: threadOf(run.flow.graph, state, rest?.until),
      to,
      ...rest?.forget !== undefined && { forget: rest.forget }
    },
    members: rest?.members
  }
}

const proceed = (run: Run, start: Start, trail: Trail): Answer =>
  Effect.flatMap(
    go(run.world, start, { now: run.now, root: run.state.root, trail: trailFrom(trail) }),
    (way) => arrive(run, way)
  )

const arrive = (run: Run, way: Way): Answer => {
  const { next, trail } = way
  switch (next._tag) {
    case "Step":
      return Effect.succeed(
        goOn(run, { t: "step", p: next.path }, trail, { _tag: "Step", ...next.step, due: { after: next.delay } })
      )
    case "Wait":
      return Effect.succeed(
        goOn(run, next.origin.at, next.origin.trail, { _tag: "Between", due: { after: next.delay } })
      )
    case "Again":
      return restart(run, trail, next)
    case "Fan":
      return fanOut(run, way, next)
    case "End":
      return next.signal._tag === "Value"
        ? finish(run, trail, next.signal.from!) // values come from what is stored
        : Effect.flatMap(blameOf(next.signal), (blame) => end(run, trail, { t: "failed", blame }))
  }
}

/** A failure behind a node: something may catch it. */
const raise = (run: Run, after: string, error: unknown, blame: Blame | undefined, trail: Trail): Answer =>
  proceed(run, { after, signal: { _tag: "Failure", error, blame } }, trail)

/** Runs a named flow again, later: nothing that it has done is undone any more, and its limits begin again. */
const restart = (
  run: Run,
  passed: Trail,
  { after, flow, input }: Omit<Extract<Way["next"], { readonly _tag: "Again" }>, "_tag">
): Answer =>
  Effect.gen(function*(): Effect.fn.Return<Written, DocketError.DocketError> {
    const { graph } = run.flow
    const body = graph.body(flow)
    const isInside = (path: string) => flow === "" || path.startsWith(`${body}/`)
    const trail = trailFrom(passed)
    for (const path of trail.limits.keys()) {
      if (isInside(path)) trail.limits.delete(path)
    }
    trail.undo.splice(0, Infinity, ...passed.undo.filter(({ p }) => !isInside(p)))
    trail.chosen.splice(0, Infinity, ...passed.chosen.filter((path) => !isInside(path)))
    const start = input === undefined
      ? yield* again(run.world, flow, trail, run.state.root)
      : { into: body, value: input.value, from: undefined }
    const way = yield* go(run.world, start, { now: run.now, root: run.state.root, trail, after })
    const { next, origin } = way
    const rest = { round: run.state.round + 1, forget: body }
    if (next._tag === "Step") {
      const due = { after: next.delay }
      return goOn(run, { t: "step", p: next.path }, way.trail, { _tag: "Step", ...next.step, due }, rest)
    }
    if (origin === undefined) return yield* arrive(run, way)
    const delay = next._tag === "Wait" ? next.delay : after
    return goOn(run, origin.at, origin.trail, { _tag: "Between", due: { after: delay } }, rest)
  })

/** Ends with a value. */
const finish = (run: Run, trail: Trail, from: Source): Answer =>
  run.thread.parent === undefined
    ? Effect.succeed({ change: { _tag: "Completed", exit: writeEnd({ from, undo: [] }) } })
    : Effect.gen(function*() {
      // this record is gone then: what the gather above has to know goes with its word
      const undo = yield* Effect.forEach(trail.undo, ({ from, p }) =>
        Effect.map(embed(run, from), (from) => ({ p, from })))
      return { change: { _tag: "Completed", exit: writeEnd({ from: yield* embed(run, from), undo }) } }
    })

const embed = (run: Run, source: Source): Effect.Effect<Source, DocketError.DocketError> =>
  "g" in source && source.g.all === undefined
    ? Effect.map(readMembers(run.world, source.g), (members) => ({
      p: source.p,
      g: { ...source.g, all: members.map((member) => member ?? null) }
    }))
    : Effect.succeed(source)

// ---------------------------------------------------------------------------------------------------------------------
// ending without a value
// ---------------------------------------------------------------------------------------------------------------------

/** The flow ends: what has been done is undone, the last first. */
const end = (run: Run, trail: Trail, why: Ending): Answer => undo(run, trail, trail.undo.length - 1, why)

/**
 * A cancel came, or a limit passed, when a step had ended and nobody had interpreted that: what it did may have to be undone
 * as well, and it may have ended in time.
 */
const stopBehind = (run: Run, step: string, exit: string, { _tag }: Happened): Answer =>
  Effect.gen(function*() {
    const { now, state, world } = run
    const signal = yield* readBlame(world, { p: step, e: exit })
    const way = yield* go(world, { after: step, signal }, { now, root: state.root, trail: trailFrom(state.trail) })
    if (_tag === "Cancelled") return yield* end(run, way.trail, { t: "cancelled" })
    const limit = earliest(state.trail)
    return limit === undefined || way.trail.limits.has(limit)
      ? yield* expire({ ...run, state: { ...state, trail: way.trail } })
      : yield* arrive(run, way)
  })

const undo = (run: Run, trail: Trail, index: number, why: Ending): Answer => {
  const one: Undo | undefined = trail.undo[index]
  if (one === undefined) {
    return Effect.succeed({
      change: why.t === "cancelled"
        ? { _tag: "Cancelled" }
        : { _tag: "Failed", exit: writeEnd({ from: why.blame, undo: [] }) }
    })
  }
  return Effect.gen(function*() {
    const { from, p } = one
    const signal = yield* valueAt(run.world, from, { root: run.state.root, until: p })
    if (signal._tag === "Failure") {
      const message = `flow "${run.flow.graph.name}": the compensation at ${p} cannot be computed; it is left out`
      yield* Effect.annotateLogs(Effect.logError(message, signal.error), { key: run.claim.key })
      return yield* undo(run, trail, index - 1, why)
    }
    const id = `undo~${index}`
    const member = yield* memberOf(run, id, chainOf(p, undefined))(0, p, signal.value, 0)
    const gather = { id, succeeded: 1, failed: 1, ended: 1 }
    return goOn(run, { t: "undo", i: index, why }, trail, { _tag: "Gather", gather }, { members: [member] })
  })
}

/** A limit has passed: a failure behind it. */
const expire = (run: Run): Answer => {
  const { trail } = run.state
  const passed = earliest(trail)
  if (passed === undefined) return end(run, trail, { t: "cancelled" })
  return Effect.suspend(() => raise(run, passed, timeout(run, passed), undefined, withoutLimit(run, passed)))
}

/** The path of the limit that ends first. */
const earliest = ({ limits }: Trail): string | undefined => {
  let first: readonly [path: string, at: number] | undefined
  for (const limit of limits) {
    if (first === undefined || limit[1] < first[1]) first = limit
  }
  return first?.[0]
}

const timeout = ({ flow: { graph }, world }: Run, limit: string) => {
  const [node] = graph.at(limit)
  const millis = node._tag === "Deadline" ? node.limit : node._tag === "ForEach" ? node.deadline ?? 0 : 0
  return failureOf(world, new TaskFailure.Timeout({ limit: Duration.millis(millis) }))
}

const withoutLimit = ({ flow: { graph }, state }: Run, limit: string): Trail => {
  const trail = trailFrom(state.trail)
  for (const path of trail.limits.keys()) {
    if (graph.within(limit, path)) trail.limits.delete(path)
  }
  return trail
}

// ---------------------------------------------------------------------------------------------------------------------
// fan-out
// ---------------------------------------------------------------------------------------------------------------------

const fanOut = (
  run: Run,
  { trail }: Way,
  { from, node, path, value }: Extract<Way["next"], { readonly _tag: "Fan" }>
): Answer => {
  const members = Result.try(() => membersOf(node, value))
  if (Result.isFailure(members)) {
    const error = failureOf(run.world, new TaskFailure.Defect({ defect: members.failure }))
    return raise(run, path, error, undefined, trail)
  }
  return Effect.gen(function*(): Effect.fn.Return<Written, DocketError.DocketError> {
    const all = members.success
    const n = all.length
    const id = idOf(run, path)
    if (n === 0) {
      const g = { id, n, why: "AllSettled", at: run.now, all: [] } as const
      return yield* proceed(run, { after: path, signal: yield* valueOf(run.world, { p: path, g }) }, trail)
    }
    const window = node._tag === "ForEach" ? node.concurrency : undefined
    const isLarge = n > together || window !== undefined
    const until = node._tag === "ForEach" && node.deadline !== undefined ? run.now + node.deadline : undefined
    const since = window !== undefined && node._tag === "ForEach" && node.over !== undefined ? run.now : undefined
    const at: At = {
      t: "fan",
      p: path,
      from: from!, // a fan-out comes from somewhere
      id,
      n,
      next: isLarge ? 0 : n,
      ...until !== undefined && { until },
      ...since !== undefined && { since }
    }
    // that it is here is written first: adding so many takes a while, and the step that led here must not run again
    if (isLarge) return goOn(run, at, trail, { _tag: "Between", due: { after: 0 } }, { until })
    const added = yield* buildMembers(run, { path, node, members: all }, 0, n)
    return goOn(run, at, trail, waitFor(id, ruleOf(node, n, n)), { members: added, until })
  })
}

const waitFor = (id: string, { ended, failed, succeeded }: Rule): Destination => ({
  _tag: "Gather",
  gather: { id, ended, failed, succeeded }
})

// ---------------------------------------------------------------------------------------------------------------------
// fan-in
// ---------------------------------------------------------------------------------------------------------------------

const gather = (run: Run, at: AtFan, happened: Happened): Answer => {
  const { state: { trail }, thread, world } = run
  const [node] = run.flow.graph.at(at.p)
  if (node._tag !== "ForEach" && node._tag !== "All" && node._tag !== "Outcomes") {
    return Effect.die(new Error(`the step at ${at.p} does not gather: was the flow changed without a new version?`))
  }
  if (happened._tag === "Cancelled") return leave(run, at, undefined, { t: "cancelled" })
  if (happened._tag === "Expired") {
    const limit = earliest(trail)
    const isOwn = at.until !== undefined && !(limit !== undefined && trail.limits.get(limit)! < at.until)
    if (!isOwn || (node._tag === "ForEach" && node.policy._tag === "AllSucceed")) {
      const passed = isOwn ? at.p : limit!
      return Effect.flatMap(
        encodeFailure(timeout(run, passed)),
        (blame) => leave(run, at, passed, { t: "failed", blame })
      )
    }
  }
  if (at.retry !== undefined && at.ahead === undefined) return retryMembers(run, at, node)
  if (at.next === 0 && happened._tag === "Came") return spreadMore(run, at, node, 0)
  // of one that has added nobody, what the gather before it has heard is known
  const { failed: said, succeeded } = at.next > 0 && thread.gathered || { failed: 0, succeeded: 0 }
  // of those that are still to be tried again, it does not count that they failed before
  const failed = said - (at.retry === undefined ? 0 : at.ahead?.failed ?? 0)
  const why = verdictOf(node, at.n, succeeded, failed, happened._tag === "Expired")
  if (why === undefined) {
    return at.retry === undefined ? spreadMore(run, at, node, succeeded + failed) : retryMembers(run, at, node)
  }
  const isOpen = succeeded + failed < at.n
  const cancels = isOpen && (node._tag === "All" || (node._tag === "ForEach" && node.onRelease === "cancelRest"))
  const over = { id: at.id, n: at.n, why, at: run.now }
  return Effect.gen(function*(): Effect.fn.Return<Written, DocketError.DocketError> {
    const members = yield* readMembers(world, over)
    const open = openIn(members)
    const all = members.map((member) => member ?? null)
    const value = yield* valueOf(world, { p: at.p, g: { ...over, all } })
    // the value is made again later, and is the same then, whatever the others have said meanwhile
    const signal = value._tag === "Value"
      ? { ...value, from: { p: at.p, g: { ...over, ...open && { open } } } }
      : value
    if (!cancels) return yield* proceed(run, { after: at.p, signal }, yield* collect(run, at, members))
    // what was decided is written before members are cancelled: whoever takes this up meanwhile finds it so
    const next: At = signal._tag === "Failure"
      ? { t: "drain", fan: at, cancels: true, raise: at.p, why: { t: "failed", blame: yield* blameOf(signal) } }
      : { t: "go", from: signal.from!, rest: at } // as above
    const passed = next.t === "go" ? yield* collect(run, at, members) : trail
    return goOn(run, next, passed, { _tag: "Between", due: { after: 0 } })
  })
}

/** Adds members up to as many as may run at once. */
const spreadMore = (run: Run, at: AtFan, node: Fan, ended: number): Answer =>
  Effect.gen(function*() {
    const { root, trail } = run.state
    const next = Math.max(at.next, Math.min(at.n, ended + windowOf(node, at.n)))
    if (next > at.next) {
      const signal = yield* valueAt(run.world, at.from, { root, until: at.p })
      const members = signal._tag === "Value" ? membersOf(node, signal.value) : []
      yield* spread(run, { path: at.p, node, members, since: at.since }, at.next, next)
    }
    return goOn(run, { ...at, next }, trail, waitFor(at.id, ruleOf(node, at.n, next)), { until: at.until })
  })

/**
 * Adds the members that have not succeeded once more, up to as many as may run at once, some with each settlement. A worker
 * whose claim is over writes none, when others have long heard how they ended.
 */
const retryMembers = (run: Run, before: AtFan, node: Fan): Answer =>
  Effect.gen(function*() {
    const { state: { root, trail }, thread: { gathered }, world } = run
    const at = before.ahead === undefined ? yield* beginRetry(run, before, node) : before
    let { retry = 0 } = at
    const ahead = { succeeded: 0, failed: 0, ...at.ahead }
    const ended = before.ahead === undefined || gathered === undefined ? ahead : gathered
    const underWay = retry - (ended.succeeded + ended.failed - ahead.succeeded - ahead.failed)
    const signal = yield* valueAt(world, at.from, { root, until: at.p })
    const fan = {
      path: at.p,
      node,
      members: signal._tag === "Value" ? membersOf(node, signal.value) : [],
      since: at.since
    }
    const members: Array<Docket.EncodedAddition> = []
    let room = windowOf(node, at.n) - underWay
    while (retry < at.next && room > 0 && members.length === 0) {
      const from = retry
      const to = Math.min(at.next, from + Math.min(chunk, Math.max(room, together)))
      const known = yield* world.members(at.id, from, to)
      const additions = yield* buildMembers(run, fan, from, to)
      for (; retry < to && room > 0; retry++) {
        const member = known[retry - from]
        if (member?._tag === "Done") {
          ahead.succeeded--
          continue
        }
        if (member !== undefined) ahead.failed--
        members.push({ ...additions[retry - from]!, onExisting: "replace" })
        room--
      }
    }
    const isOver = retry === at.next
    const { retry: _retry, ahead: _ahead, ...after } = at
    const next: AtFan = isOver ? after : { ...at, retry, ahead }
    const rule = isOver ? ruleOf(node, at.n, at.next) : retryRuleOf(node, at.n, retry, ahead, room > 0)
    return goOn(run, next, trail, waitFor(at.id, rule), { members, until: at.until })
  })

/** Where members begin to be tried again: its limit begins anew, and how many are known is counted. */
const beginRetry = (
  run: Run,
  { until: _until, ...at }: AtFan,
  node: Fan
): Effect.Effect<AtFan, DocketError.DocketError> =>
  Effect.gen(function*() {
    const ahead = { succeeded: 0, failed: 0 }
    // a build before this one may have begun
    for (let from = at.retry ?? 0; from < at.next; from += chunk) {
      for (const member of yield* run.world.members(at.id, from, Math.min(at.next, from + chunk))) {
        if (member?._tag === "Done") ahead.succeeded++
        else if (member !== undefined) ahead.failed++
      }
    }
    const until = node._tag === "ForEach" && node.deadline !== undefined ? run.now + node.deadline : undefined
    return {
      ...at,
      ahead,
      ...until !== undefined && { until },
      ...at.since !== undefined && { since: run.now }
    }
  })

/** Ends a gather with a failure or a cancel: when its members have ended, and not before, what they did is undone. */
const leave = (run: Run, at: AtFan, after: string | undefined, why: Ending): Answer =>
  Effect.map(cancelRest(run, at), (ended) => {
    const to = waitFor(at.id, { succeeded: at.n + 1, failed: at.n + 1, ended })
    return goOn(run, { t: "drain", fan: at, ...after !== undefined && { raise: after }, why }, run.state.trail, to)
  })

const drained = (run: Run, at: Extract<At, { readonly t: "drain" }>): Answer =>
  Effect.gen(function*() {
    const trail = yield* collect(run, at.fan)
    if (at.raise === undefined || at.why.t === "cancelled") return yield* end(run, trail, at.why)
    const { blame } = at.why
    const signal: Signal = yield* readBlame(run.world, blame)
    const error = signal._tag === "Failure" ? signal.error : undefined
    const inside = { ...run, state: { ...run.state, trail } }
    return yield* raise(run, at.raise, error, blame, withoutLimit(inside, at.raise))
  })
