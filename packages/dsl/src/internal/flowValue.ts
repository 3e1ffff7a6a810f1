/**
 * The values of a flow, made from what is stored of it, and how a flow ends as text.
 *
 * The text of an end is that of the step that it came from, with a field `flow` that says where: readers without the flow
 * find an ordinary exit in it.
 */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"
import type * as Schema from "effect/Schema"
import type { DocketError } from "../DocketError.ts"
import type * as Gather from "../Gather.ts"
import * as Task from "../Task.ts"
import * as TaskFailure from "../TaskFailure.ts"
import { type Codec, codec, jsonStep, known, parse } from "./codec.ts"
import * as ast from "./flow.ts"
import { type Blame, type Gathering, type Graph, type Signal, type Source, trail, type Undo } from "./flowGraph.ts"
import type { EncodedMember } from "./wire.ts"

/** Where values are made: in a run of a flow. */
export interface Place {
  readonly graph: Graph
  /** The key of the run. */
  readonly key: string
  /** How the members of its gathers ended. */
  readonly members: (
    gather: string,
    from: number,
    to: number
  ) => Effect.Effect<ReadonlyArray<EncodedMember | undefined | null>, DocketError>
}

// Members that one read asks for.
const page = 1000

let failureCodec: Codec | undefined

/** Reads and writes failures of a flow itself; made when it is asked for, because tasks need this module to be made. */
const failures = (): Codec => failureCodec ??= codec(Task.make("Flow"))

/** The key of a member of a gather. */
export const memberKey = (key: string, gather: string, name: string | number): string =>
  `${key}/${gather}/${typeof name === "number" ? name : encodeURIComponent(name)}`

const places = new WeakMap<Schema.Top, ReturnType<typeof jsonStep>>()

/** Reads and writes the input of a chain. */
export const inputCodec = (schema: Schema.Top): ReturnType<typeof jsonStep> => {
  let step = places.get(schema)
  if (step === undefined) places.set(schema, step = jsonStep(schema))
  return step
}

/** A failure of the flow itself. */
export const failureOf = ({ graph, key }: Pick<Place, "graph" | "key">, reason: TaskFailure.Reason) =>
  new TaskFailure.TaskFailure({ task: graph.name, key, reason })

/** The text of a failure that no step is to blame for. */
export const encodeFailure = (failure: TaskFailure.TaskFailure): Effect.Effect<Blame> =>
  failures().encodeFailure(failure).pipe(
    Effect.catch((message) =>
      Effect.orDie(
        failures().encodeFailure(
          new TaskFailure.TaskFailure({
            task: failure.task,
            key: failure.key,
            reason: new TaskFailure.Defect({ defect: new Error(`a defect that cannot be stored: ${message}`) })
          })
        )
      )
    ),
    Effect.map((e) => ({ p: undefined, e }))
  )

const undecodable = (place: Place, message: string): Signal => ({
  _tag: "Failure",
  error: failureOf(place, new TaskFailure.Undecodable({ message })),
  blame: undefined
})

/** Reads the text of how a step ended; `stored` is what it holds, if that is known. */
const readExit = (
  place: Place,
  path: string | undefined,
  text: string,
  stored?: unknown
): Effect.Effect<Signal> => {
  const node = path === undefined ? undefined : place.graph.at(path)[0]
  const reader = node?._tag === "Task" ? codec(node.task) : failures()
  const read = stored === undefined ? reader.decodeExit(text) : reader.readExit(stored)
  const signal = (exit: Exit.Exit<unknown, unknown>): Signal =>
    Exit.isSuccess(exit)
      ? { _tag: "Value", value: exit.value, from: { p: path!, e: text } }
      : {
        _tag: "Failure",
        error: Option.isSome(Exit.findErrorOption(exit))
          ? Option.getOrThrow(Exit.findErrorOption(exit))
          : failureOf(place, new TaskFailure.Defect({ defect: exit.cause })),
        blame: { p: path, e: text }
      }
  // there may be thousands of them: those that are known cost no step of a fiber
  const exit = known(read)
  if (exit !== undefined) return Exit.succeed(signal(exit.value))
  return Effect.match(read, {
    onFailure: (message) => undecodable(place, `the end of its step at ${path} does not decode: ${message}`),
    onSuccess: signal
  })
}

/** What is to blame, as an error. */
export const readBlame = (place: Place, blame: Blame): Effect.Effect<Signal> => readExit(place, blame.p, blame.e)

/** Makes the value of a source, as it left the node at its path. A gather whose members failed is a failure. */
export const valueOf = (place: Place, source: Source): Effect.Effect<Signal, DocketError> => {
  if ("e" in source) return readExit(place, source.p, source.e)
  if ("g" in source) return gatherOf(place, source)
  const [node] = place.graph.at(source.p)
  const decoded = node._tag === "Task"
    ? codec(node.task).decodePayload(source.i, Number.MAX_SAFE_INTEGER)
    : node._tag === "Input"
    ? inputCodec(node.schema).decode(source.i)
    : Effect.fail("it is not a step that has one")
  return Effect.match(decoded, {
    onFailure: (message) => undecodable(place, `the input of its step at ${source.p} does not decode: ${message}`),
    onSuccess: (value): Signal => ({ _tag: "Value", value, from: source })
  })
}

/** What becomes of a signal from behind a node to another one, or to the end of the chain `root`. */
const endOf = (place: Place, after: string, signal: Signal, root: string, until = "end"): Signal => {
  const stop = place.graph.walk({ after, signal }, { root, now: 0, trail: trail(), until })
  if (stop._tag === "End") return stop.signal
  return stop._tag === "At"
    ? { _tag: "Value", value: stop.value, from: stop.from }
    : undecodable(place, `nothing leads from its step at ${after} to ${until}`)
}

/** Makes the value that a source has when it comes to another node, or to the end of a chain. */
export const valueAt = (
  place: Place,
  source: Source,
  { root, until }: { readonly root: string; readonly until?: string | undefined }
): Effect.Effect<Signal, DocketError> =>
  Effect.map(valueOf(place, source), (signal) => endOf(place, source.p, signal, root, until))

// ---------------------------------------------------------------------------------------------------------------------
// gathers
// ---------------------------------------------------------------------------------------------------------------------

/** How all members of a gather ended; those that had not when it was over are `undefined`. */
export const readMembers = (
  place: Place,
  { all, id, n, open = [] }: Gathering
): Effect.Effect<ReadonlyArray<EncodedMember | undefined | null>, DocketError> => {
  if (all !== undefined) return Effect.succeed(all)
  return Effect.map(
    Effect.forEach(
      Array.from({ length: Math.ceil(n / page) }, (_, i) => i * page),
      (from) => place.members(id, from, Math.min(n, from + page)),
      { concurrency: 4 }
    ),
    (pages) => {
      const members = pages.flat()
      for (const [from, to] of open) members.fill(undefined, from, to)
      return members
    }
  )
}

/** Which members of a gather have not ended. */
export const openIn = (members: ReadonlyArray<EncodedMember | undefined | null>): Gathering["open"] => {
  const open: Array<[from: number, to: number]> = []
  members.forEach((member, index) => {
    if (member) return
    const last = open.at(-1)
    if (last?.[1] === index) last[1]++
    else open.push([index, index + 1])
  })
  return open.length === 0 ? undefined : open
}

const none = Exit.succeed(undefined)

/** The value or the failure with which a member ended; `undefined` if it was decided by the store, or is not known. */
const memberOf = (
  place: Place,
  scope: string,
  key: string,
  member: EncodedMember | undefined | null
): Effect.Effect<Signal | undefined, DocketError> => {
  if (member === undefined || member === null || !("text" in member)) return none
  const end = readEnd(member.text)
  const inside = { ...place, key }
  if (end === undefined) return Exit.succeed(undecodable(inside, "its end is not that of a flow"))
  const { from, stored } = end
  if (member._tag === "Failed") return readExit(inside, from.p, member.text, stored)
  // nothing comes behind the only task of a chain
  return "e" in from && place.graph.only(scope)?.path === from.p
    ? readExit(inside, from.p, member.text, stored)
    : valueAt(inside, from, { root: scope })
}

const died = (place: Place, key: string, member: EncodedMember | undefined | null): TaskFailure.TaskFailure =>
  failureOf({ ...place, key }, member?._tag === "Gone" ? new TaskFailure.Gone() : new TaskFailure.Cancelled())

const gatherOf = Effect.fnUntraced(
  function*(place: Place, source: Extract<Source, { readonly g: unknown }>): Effect.fn.Return<Signal, DocketError> {
    const { g, p } = source
    const [node] = place.graph.at(p)
    const members = yield* readMembers(place, g)
    const done = (value: unknown): Signal => ({ _tag: "Value", value, from: source })
    if (node._tag === "All" || node._tag === "Outcomes") {
      const values: Record<string, unknown> = {}
      for (const [index, name] of Array.from(node.branches.keys()).entries()) {
        const key = memberKey(place.key, g.id, name)
        const signal = yield* memberOf(place, ast.scope(p, name), key, members[index])
        const value = signal?._tag === "Value" ? signal.value : undefined
        const error = signal?._tag === "Failure" ? signal.error : died(place, key, members[index])
        if (node._tag === "Outcomes") {
          values[name] = signal?._tag === "Value" ? Result.succeed(value) : Result.fail(error)
        } else if (signal?._tag === "Value") values[name] = value
        // a branch that is not known ended after one that failed: that one is to blame
        else if (members[index]) return { _tag: "Failure", error, blame: signal?.blame }
      }
      return done(values)
    }
    if (node._tag !== "ForEach") return undecodable(place, `its step at ${p} does not gather`)
    const scope = ast.scope(p, undefined)
    const children: Array<Gather.Child<unknown, unknown>> = []
    const values: Array<unknown> = []
    for (let index = 0; index < g.n; index++) {
      const member = members[index]
      const key = memberKey(place.key, g.id, index)
      const signal = yield* memberOf(place, scope, key, member)
      if (node.policy._tag === "AllSucceed") {
        if (signal?._tag === "Value") values.push(signal.value)
        else if (member) {
          const error = signal === undefined ? died(place, key, member) : signal.error
          return { _tag: "Failure", error, blame: signal?.blame }
        }
      } else children.push(childOf(place, index, key, member, signal))
    }
    return done(
      node.policy._tag === "AllSucceed"
        ? values
        : { reason: g.why, releasedAt: DateTime.makeUnsafe(g.at), children }
    )
  }
)

const childOf = (
  place: Place,
  index: number,
  key: string,
  member: EncodedMember | undefined | null,
  signal: Signal | undefined
): Gather.Child<unknown, unknown> => {
  if (!member) return { _tag: "Pending", index, key }
  if (signal?._tag === "Value") return { _tag: "Done", index, key, value: signal.value }
  const error = signal === undefined ? died(place, key, member) : signal.error
  if (!(error instanceof TaskFailure.TaskFailure)) return { _tag: "Failed", index, key, error }
  return error.reason._tag === "Cancelled"
    ? { _tag: "Cancelled", index, key }
    : { _tag: "Died", index, key, failure: error }
}

// ---------------------------------------------------------------------------------------------------------------------
// ends
// ---------------------------------------------------------------------------------------------------------------------

/** How a flow, or a member of a gather, has ended: where its value or its failure comes from, and what to undo. */
export interface End {
  readonly from: Source | Blame
  readonly undo: ReadonlyArray<Undo>
}

interface Written {
  readonly p?: string
  readonly i?: string
  readonly g?: Gathering
  readonly u?: ReadonlyArray<Undo>
}

/** The text of an end. */
export const writeEnd = ({ from, undo }: End): string => {
  const text = "e" in from ? from.e : `{"_tag":"Success","value":null}`
  const written: Written = {
    ...from.p !== undefined && { p: from.p },
    ..."i" in from && { i: from.i },
    ..."g" in from && { g: from.g },
    ...undo.length > 0 && { u: undo }
  }
  return `${text.slice(0, -1)},"flow":${JSON.stringify(written)}}`
}

/** Reads the text of an end, and what it holds; `undefined` if it is not one. */
export const readEnd = (
  text: string
): (End & { readonly from: Source; readonly stored: unknown }) | undefined => {
  const stored = known(parse(text))
  if (stored === undefined) return undefined
  const flow = Predicate.hasProperty(stored.value, "flow") ? stored.value.flow as Written | undefined : undefined // written above
  if (flow === undefined) return undefined
  const { g, i, p, u = [] } = flow
  // a failure of the flow itself has no path
  const from: Source = g !== undefined
    ? { p: p!, g }
    : i !== undefined
    ? { p: p!, i }
    : { p: p as string, e: text }
  return { from, undo: u, stored: stored.value }
}

/** How a flow ended, for those who wait for it. */
export const decodeEnd = (place: Place, text: string): Effect.Effect<Exit.Exit<unknown, unknown>, DocketError> => {
  const none = (message: string) => Exit.fail(failureOf(place, new TaskFailure.Undecodable({ message })))
  const end = readEnd(text)
  if (end === undefined) return Effect.succeed(none("its result is not that of a flow"))
  const { from } = end
  return Effect.suspend(() => "e" in from ? readExit(place, from.p, from.e, end.stored) : valueOf(place, from)).pipe(
    Effect.map((first) => {
      const last = first._tag === "Failure" ? first : endOf(place, from.p, first, "")
      return last._tag === "Value" ? Exit.succeed(last.value) : Exit.fail(last.error)
    }),
    // a text that has the form, and leads to no step of this flow
    Effect.catchDefect((defect) => Effect.succeed(none(`its result is not that of this flow (${String(defect)})`)))
  )
}
