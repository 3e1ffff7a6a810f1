/**
 * Dead letters: read with the schemas of their task or flow, and written again.
 */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import { type DeadLetter, Docket, type FlowLetter } from "../Docket.ts"
import type { DocketError } from "../DocketError.ts"
import type * as Flow from "../Flow.ts"
import * as Task from "../Task.ts"
import { TaskFailure, Undecodable } from "../TaskFailure.ts"
import * as client from "./client.ts"
import { codec } from "./codec.ts"
import * as execution from "./execution.ts"
import { graphOf } from "./flowGraph.ts"
import * as flowRun from "./flowRun.ts"
import { reader } from "./flowStart.ts"
import { gatesAgain, gatesOf } from "./gates.ts"
import * as options_ from "./options.ts"
import type { EncodedAddition, EncodedDeadLetter } from "./wire.ts"

type Service = Docket["Service"]

/** Options of `redrive`, whatever the letters are of. */
export interface Options {
  readonly filter?: ((letter: never) => boolean) | undefined
  readonly map?: ((letter: never) => unknown) | undefined
  readonly limit?: number | undefined
}

/** Leaves a letter where it is: it cannot be written again, and the others can. */
const left = ({ key, task }: EncodedDeadLetter, error: unknown) =>
  Effect.as(
    Effect.annotateLogs(Effect.logWarning(`${task}: cannot be redriven: ${String(error)}`), { task, key }),
    undefined
  )

const again = { due: { after: 0 }, onExisting: "keep" } as const

// ---------------------------------------------------------------------------------------------------------------------
// tasks
// ---------------------------------------------------------------------------------------------------------------------

/** A letter with what `redrive` needs of it. A payload that does not decode is left as its JSON value. */
const decodeLetter = Effect.fnUntraced(function*(task: Task.Any, letter: EncodedDeadLetter) {
  const exit = yield* execution.decodeOutcome(task, letter.key, { _tag: "Exit", exit: letter.exit })
  const payload = yield* Effect.result(codec(task).decodePayload(letter.payload, letter.version))
  const decoded: DeadLetter<Task.Any> = {
    key: letter.key,
    payload: payload._tag === "Success" ? payload.success : letter.payload,
    error: (Exit.isFailure(exit) ? execution.errorOf(exit) : new TaskFailure({
      task: task._tag,
      key: letter.key,
      reason: new Undecodable({ message: "a failed run holds a success" })
    })) as TaskFailure, // or an error of the task
    attempts: letter.attempt,
    failedAt: DateTime.makeUnsafe(letter.failedAt)
  }
  return { encoded: letter, readable: payload._tag === "Success", letter: decoded }
})

/** The failed runs of a task. */
export const ofTask = (docket: Service, task: Task.Any): Stream.Stream<DeadLetter<Task.Any>, DocketError> =>
  Stream.mapEffect(
    docket.deadLetters(task._tag),
    (letter) => Effect.map(decodeLetter(task, letter), ({ letter }) => letter)
  )

const additionOfTask = Effect.fnUntraced(function*(
  granted: client.Client,
  task: Task.Any,
  { encoded, letter, readable }: Effect.Success<ReturnType<typeof decodeLetter>>,
  map: Options["map"]
): Effect.fn.Return<EncodedAddition | undefined, DocketError> {
  const redrive = encoded.generation
  const part = encoded.thread && Result.try(() => flowRun.afresh(encoded.thread!)) // as it is here
  if (part !== undefined && Result.isFailure(part)) return yield* left(encoded, part.failure)
  const thread = part && { thread: part.success }
  if (map !== undefined) {
    const given = { key: encoded.key }
    const repaired = yield* client.encode("Docket.redrive", granted, task, map(letter as never), given) // a letter of this task
    return { ...repaired, ...thread, redrive }
  }
  const { gates, lane, priority, retention } = options_.resolved(granted.task)
  return {
    ...again,
    task: task._tag,
    version: encoded.version,
    key: encoded.key,
    payload: encoded.payload,
    lane,
    // a function can be asked about a payload that decodes, and about no other
    priority: typeof priority === "number" ? priority : readable ? priority(letter.payload as never) : 0,
    retention,
    // as above
    ...gates && {
      gates: readable ? gatesOf(task._tag, gates, letter.payload) : gatesAgain(task._tag, gates, undefined)
    },
    ...thread,
    redrive
  }
})

// ---------------------------------------------------------------------------------------------------------------------
// flows
// ---------------------------------------------------------------------------------------------------------------------

/** The failed runs of a version of a flow: they are among those of its tasks, or between them. */
const encodedOf = (docket: Service, flow: Flow.AnyNamed): Stream.Stream<EncodedDeadLetter, DocketError> => {
  const { name, tasks, version } = graphOf(flow)
  return Stream.fromIterable(new Set([...tasks.keys(), name])).pipe(
    Stream.flatMap((tag) => docket.deadLetters(tag)),
    Stream.filter(({ thread }) =>
      thread?.flow === name && thread.version === version && flowRun.tryRead(thread)?.flowKey === undefined
    )
  )
}

const decodeFlow = (
  docket: Service,
  flow: Flow.AnyNamed,
  { exit, failedAt, key, thread }: EncodedDeadLetter
): Effect.Effect<FlowLetter<unknown>, DocketError> =>
  Effect.map(reader(docket, graphOf(flow)).outcome(key, { _tag: "Exit", exit }), (exit) => ({
    key,
    error: execution.errorOf(exit),
    step: Option.fromUndefinedOr(thread?.step),
    failedAt: DateTime.makeUnsafe(failedAt)
  }))

/** The failed runs of a flow. */
export const ofFlow = (docket: Service, flow: Flow.AnyNamed): Stream.Stream<FlowLetter<unknown>, DocketError> =>
  Stream.mapEffect(encodedOf(docket, flow), (letter) => decodeFlow(docket, flow, letter))

const additionOfFlow = Effect.fnUntraced(function*(
  flow: Flow.AnyNamed,
  encoded: EncodedDeadLetter,
  clients: ReadonlyMap<string, client.Client>
): Effect.fn.Return<EncodedAddition | undefined, DocketError> {
  const graph = graphOf(flow)
  const part = Result.try(() => {
    const thread = flowRun.redriven(graph, encoded.thread!) // the letters of flows have one
    return { thread, granted: flowRun.isAtTask(thread) ? clients.get(encoded.task) : undefined }
  })
  if (Result.isFailure(part)) return yield* left(encoded, part.failure)
  const { granted, thread } = part.success
  if (granted !== undefined) {
    const decoded = yield* decodeLetter(graph.tasks.get(encoded.task)!, encoded)
    const addition = yield* additionOfTask(granted, granted.task, decoded, undefined)
    return addition && { ...addition, thread }
  }
  return {
    ...again,
    task: graph.name,
    version: graph.version,
    key: encoded.key,
    payload: encoded.payload,
    lane: "",
    priority: 0,
    // the store keeps it as long as before
    retention: { success: 0, failure: 0 },
    thread,
    redrive: encoded.generation
  }
})

// ---------------------------------------------------------------------------------------------------------------------
// both
// ---------------------------------------------------------------------------------------------------------------------

/** Writes letters again; how many were scheduled. */
export const redrive = Effect.fnUntraced(function*(
  what: Task.Any | Flow.AnyNamed,
  { filter, limit = Number.MAX_SAFE_INTEGER, map }: Options
) {
  const docket = yield* Docket
  // `as never`: what the caller's types ask for is the permission of just these tasks
  const matches = (letter: unknown) => filter === undefined || filter(letter as never) // a letter of `what`
  const additions = Task.isTask(what)
    ? yield* Effect.map(client.key(what._tag as never), (granted) =>
      docket.deadLetters(what._tag).pipe(
        Stream.mapEffect((letter) => decodeLetter(what, letter)),
        Stream.filter(({ letter }) => matches(letter)),
        Stream.take(limit),
        Stream.mapEffect((letter) => additionOfTask(granted, what, letter, map))
      ))
    : yield* Effect.map(
      Effect.forEach(
        graphOf(what).tasks.keys(),
        (tag) => Effect.map(client.key(tag as never), (client) => [tag, client] as const)
      ),
      (clients) =>
        encodedOf(docket, what).pipe(
          Stream.filterEffect((letter) => Effect.map(decodeFlow(docket, what, letter), matches)),
          Stream.take(limit),
          Stream.mapEffect((letter) => additionOfFlow(what, letter, new Map(clients)))
        )
    )
  return yield* additions.pipe(
    Stream.filter((addition) => addition !== undefined),
    Stream.grouped(500),
    Stream.mapEffect((additions) => docket.addEncoded(additions, { atomic: false })),
    Stream.runFold(() => 0, (count, added) => count + added.filter((one) => one.disposition === "Added").length)
  )
})
