/**
 * The members of a gather: how they are added, cancelled and heard.
 */
import type { Docket, DocketError } from "@effect-docket/dsl"
import * as Interpreter from "@effect-docket/dsl/Interpreter"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import type { Claim, ClaimedThread } from "../../DocketStore.ts"
import { type Fan, memberDelay } from "./gather.ts"
import type { FlowProgram } from "./program.ts"

const { chainOf, trail: trailFrom } = Interpreter.graph
const { members } = Interpreter.threads
const { memberKey, readEnd, readMembers } = Interpreter.values

// Members that one write adds, or one step cancels.
export const chunk = 500

// A store that is away is asked again for a few seconds; then the run is left to whoever gets it next.
export const patience = Schedule.exponential("100 millis").pipe(Schedule.jittered, Schedule.upTo({ times: 5 }))

/** A run that is interpreted. */
export interface Run {
  readonly flow: FlowProgram
  readonly claim: Claim
  readonly thread: ClaimedThread
  readonly state: Interpreter.threads.State
  readonly world: Interpreter.threads.World
  readonly now: number
}

type Members = Effect.Success<ReturnType<typeof readMembers>>

/** Where a run waits for members. */
export type AtFan = Extract<Interpreter.threads.At, { readonly t: "fan" }>

/** The id of the gather at a node: another one each time around. */
export const idOf = ({ state }: Run, path: string): string => state.round === 0 ? path : `${path}~${state.round}`

/** The names and inputs of the members. Throws what a function of the flow throws. */
export const membersOf = (
  node: Fan,
  value: unknown
): ReadonlyArray<readonly [name: string | number, value: unknown]> => {
  if (node._tag !== "ForEach") return Array.from(node.branches.keys(), (name) => [name, value] as const)
  const items: unknown = node.items === undefined ? value : node.items(value as never) // made for it
  if (!Array.isArray(items)) throw new Error(`\`items\` of \`Flow.forEach\` has to be a list, it is ${typeof items}`)
  return items.map((item: unknown, index) => [index, item] as const)
}

/** Makes the members of a gather that begin with a chain; they are due so many milliseconds after they are added. */
export const memberOf = (run: Run, gather: string, chain: string) => {
  const { claim: { generation, key, trace }, flow, state, thread: { parent }, world } = run
  const begin = members(world, chain, state.flowKey ?? key)
  // its gather knows how it ended; that it failed is for people to see
  const common = { onExisting: "keep", retention: { success: 0, failure: flow.kept }, trace } as const
  const of = { key, generation, gather, ...parent && { flow: parent.flow ?? parent } }
  return (index: number, name: string | number, value: unknown, after: number): Effect.Effect<Docket.EncodedAddition> =>
    begin({ ...of, index }, value, { ...common, key: memberKey(key, gather, name), due: { after } })
}

/** A fan-out: its node, and the names and inputs of its members. They are spread over time from `since`, or from now. */
export interface FanOut {
  readonly path: string
  readonly node: Fan
  readonly members: ReturnType<typeof membersOf>
  readonly since?: number | undefined
}

/** Some of the members. */
export const buildMembers = (
  run: Run,
  { members, node, path, since = run.now }: FanOut,
  from: number,
  to: number
): Effect.Effect<ReadonlyArray<Docket.EncodedAddition>> =>
  Effect.gen(function*() {
    const id = idOf(run, path)
    const isSpread = node._tag === "ForEach" && node.over !== undefined
    const each = node._tag === "ForEach" ? memberOf(run, id, chainOf(path, undefined)) : undefined
    const additions: Array<Docket.EncodedAddition> = []
    for (let index = from; index < to; index++) {
      const [name, value] = members[index]!
      const after = isSpread
        ? Math.max(0, since + memberDelay(node, index, members.length, yield* Random.next) - run.now)
        : 0
      const make = each ?? memberOf(run, id, chainOf(path, name as string)) // branches have names
      additions.push(yield* make(index, name, value, after))
    }
    return additions
  })

/**
 * Adds members before the settlement, in chunks: the store writes one while the next is made. One that was added before is
 * found.
 */
export const spread = (
  run: Run,
  fan: FanOut,
  from: number,
  to: number
): Effect.Effect<void, DocketError.DocketError> =>
  Effect.forEach(
    Array.from({ length: Math.ceil((to - from) / chunk) }, (_, n) => from + n * chunk),
    (at) =>
      Effect.flatMap(
        buildMembers(run, fan, at, Math.min(to, at + chunk)),
        (additions) => Effect.retry(run.flow.store.add(additions, { atomic: false }), patience)
      ),
    { concurrency: 2, discard: true }
  )

/**
 * Cancels the members that have not ended; how many have ended or will. Some are none: a cancel came before the write that
 * would have added them. Others were added by a worker that died before it had written so.
 */
export const cancelRest = (run: Run, { id, n, next, p }: AtFan) =>
  Effect.gen(function*() {
    const { claim, flow, world } = run
    const [node] = flow.graph.at(p)
    const names = node._tag === "ForEach" || !("branches" in node) ? undefined : Array.from(node.branches.keys())
    const most = Math.min(n, next + ((node._tag === "ForEach" ? node.concurrency : undefined) ?? n))
    let count = 0
    for (let from = 0; from < most; from += chunk) {
      const to = Math.min(most, from + chunk)
      const members = yield* world.members(id, from, to)
      const found = yield* Effect.forEach(
        members,
        (member, offset) =>
          member
            ? Effect.succeed(true)
            : Effect.retry(
              // under its key there may be one of a generation before, which tells this one nothing
              flow.store.cancel(memberKey(claim.key, id, names?.[from + offset] ?? from + offset), claim),
              patience
            ),
        { concurrency: 50 }
      )
      // those that have ended meanwhile have said so
      const ended = found.every(Boolean) ? [] : yield* world.members(id, from, to)
      count += found.filter((found, offset) => found || ended[offset]).length
    }
    return count
  })

/** The trail, with what members have done that may have to be undone; `known`: how they ended. */
export const collect = (
  run: Run,
  { id, n }: { readonly id: string; readonly n: number },
  known?: Members
): Effect.Effect<Interpreter.graph.Trail, DocketError.DocketError> => {
  const trail = trailFrom(run.state.trail)
  if (!run.flow.graph.compensates) return Effect.succeed(trail)
  const members = known === undefined
    ? readMembers(run.world, { id, n, why: "AllSettled", at: 0 })
    : Effect.succeed(known)
  return Effect.map(members, (members) => {
    for (const member of members) {
      if (member?._tag === "Done") trail.undo.push(...readEnd(member.text)?.undo ?? [])
    }
    return trail
  })
}
