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
const { addition, first } = Interpreter.threads
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

/** One member. */
export const memberOf = (
  run: Run,
  { after, chain, gather, index, name }: {
    readonly gather: string
    readonly index: number
    readonly name: string | number
    readonly chain: string
    readonly after: number
  },
  value: unknown
): Effect.Effect<Docket.EncodedAddition> => {
  const { claim: { generation, key, trace }, flow, state, world } = run
  const own = memberKey(key, gather, name)
  return Effect.flatMap(first({ ...world, key: own }, chain, value), (way) =>
    addition(world, way, {
      root: chain,
      flowKey: state.flowKey ?? key,
      parent: { key, generation, gather, index }
    }, {
      key: own,
      due: { after },
      onExisting: "keep",
      // its gather knows how it ended; that it failed is for people to see
      retention: { success: 0, failure: flow.kept },
      trace
    }))
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
  Effect.forEach(members.slice(from, to), ([name, value], offset) =>
    Effect.flatMap(Random.next, (chance) => {
      const index = from + offset
      const after = Math.max(0, since + memberDelay(node, index, members.length, chance) - run.now)
      const chain = chainOf(path, node._tag === "ForEach" ? undefined : name as string) // branches have names
      return memberOf(run, { gather: idOf(run, path), index, name, chain, after }, value)
    }))

/** Adds members before the settlement, in chunks. One that was added before is found. */
export const spread = (
  run: Run,
  fan: FanOut,
  from: number,
  to: number
): Effect.Effect<void, DocketError.DocketError> =>
  Effect.gen(function*() {
    for (let at = from; at < to; at += chunk) {
      const additions = yield* buildMembers(run, fan, at, Math.min(to, at + chunk))
      yield* Effect.retry(run.flow.store.add(additions, { atomic: false }), patience)
    }
  })

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
              flow.store.cancel(memberKey(claim.key, id, names?.[from + offset] ?? from + offset)),
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

/** The trail, with what members have done that may have to be undone. */
export const collect = (run: Run, { id, n }: { readonly id: string; readonly n: number }) =>
  Effect.map(readMembers(run.world, { id, n, why: "AllSettled", at: 0 }), (members) => {
    const trail = trailFrom(run.state.trail)
    for (const member of members) {
      if (member?._tag === "Done") trail.undo.push(...readEnd(member.text)?.undo ?? [])
    }
    return trail
  })
