/**
 * Starting flows, and their handles.
 */
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type { AddOptions, Docket, Enqueue } from "../Docket.ts"
import { DocketError, InvalidOption, InvalidPayload, LimitExceeded, type Reason } from "../DocketError.ts"
import type * as Execution from "../Execution.ts"
import type * as Flow from "../Flow.ts"
import * as client from "./client.ts"
import * as execution from "./execution.ts"
import { type Graph, graphOf } from "./flowGraph.ts"
import { addition as additionOf, first, type Way, type World } from "./flowRun.ts"
import { stepsOf } from "./flowSteps.ts"
import { decodeEnd } from "./flowValue.ts"
import { complaintOf, isTooLong, maxKeyBytes } from "./key.ts"
import * as options from "./options.ts"
import type { EncodedAdded, EncodedEvent, EncodedOutcome, EncodedRun } from "./wire.ts"

const operation = "Docket.start"

const fail = (reason: Reason) => Effect.fail(new DocketError({ operation, reason }))

/** Reads what is stored of a flow. */
export const reader = (docket: Docket["Service"], graph: Graph): execution.Reader => {
  const outcome = (key: string, outcome: EncodedOutcome) =>
    outcome._tag === "Exit"
      ? decodeEnd({ graph, key, members: (gather, from, to) => docket.members(key, gather, from, to) }, outcome.exit)
      : Effect.succeed(execution.decidedBy(graph.name, key, outcome))
  return {
    tag: graph.name,
    outcome,
    event: (key, event: EncodedEvent) => {
      if (event._tag === "Step") {
        const value: Flow.Progress = { step: event.step, key: event.key ?? key, state: event.state }
        return Effect.succeed({ _tag: "Progress", value, at: DateTime.makeUnsafe(event.at) } as const)
      }
      if (event._tag === "Finished") {
        return Effect.map(
          outcome(key, event.outcome),
          (exit) => ({ _tag: event._tag, exit, at: DateTime.makeUnsafe(event.at) })
        )
      }
      // that of a step is its own
      if (event._tag === "Progress") return Effect.undefined
      const task = event._tag === "Retrying" ? graph.tasks.get(event.task ?? "") : graph.tasks.values().next().value
      return task === undefined ? Effect.undefined : execution.decodeEvent(task, key, event)
    }
  }
}

/** The handle of a run of a flow; `undefined` if it is one of something else. */
export const handle = (
  docket: Docket["Service"],
  flow: Flow.AnyNamed,
  key: string,
  run: EncodedRun,
  added: EncodedAdded
): Execution.Execution<unknown, unknown, unknown> | undefined => {
  const graph = graphOf(flow)
  return run.thread?.flow === graph.name ? execution.makeWith(docket, reader(docket, graph), key, added) : undefined
}

/** How the steps of a run of a flow are; `undefined` if it is one of something else, or of another version. */
export const steps = (
  flow: Flow.AnyNamed,
  run: EncodedRun | undefined
): ReadonlyMap<string, Flow.StepState> | undefined => {
  const graph = graphOf(flow)
  if (run?.thread?.flow !== graph.name || run.thread.version !== graph.version) return undefined
  // what is stored may be nothing that this flow has written
  return Result.getOrUndefined(Result.try(() => stepsOf(graph, run)))
}

// Members are kept beside the flow: whoever waits for it reads them when it has ended, however short it is kept.
const leastWithMembers = 60_000

/** The key of the flow, or that of its first task, or a random one. */
const keyOf = (graph: Graph, input: unknown, { next }: Way, world: World): string | undefined => {
  if (graph.key !== undefined) return graph.key(input)
  if (next._tag !== "Step") return undefined
  const { key } = world.optionsOf(next.task)
  return key === undefined ? undefined : `${graph.name}/${options.keyOf(next.task._tag, key, next.value)}`
}

/** Starts a flow. */
export const start = (
  flow: Flow.AnyNamed,
  input?: unknown,
  given?: AddOptions
): Effect.Effect<Execution.Execution<unknown, unknown, unknown>, DocketError> =>
  Effect.withFiber((fiber) =>
    Effect.gen(function*() {
      const graph = graphOf(flow)
      const { name } = graph
      const context = fiber.context as Context.Context<Enqueue<string>> // the callers' types ask for it
      const clients = new Map(
        Array.from(graph.tasks.keys(), (tag) => [tag, Context.get(context, client.key(tag))] as const)
      )
      const [some] = clients.values()
      if (some === undefined) {
        return yield* fail(new InvalidOption({ option: "flow", message: `flow "${name}" runs no task` }))
      }
      const due = client.due(given)
      if (due === undefined) {
        const message = `flow "${name}": \`at\` or \`after\` is not a time or a finite duration`
        return yield* fail(new InvalidOption({ option: "at", message }))
      }
      const world: World = {
        graph,
        key: given?.key ?? "",
        members: () => Effect.succeed([]),
        optionsOf: (task) => client.prepare(clients.get(task._tag)!, task)
      }
      const way = yield* first(world, "", input)
      if (way.next._tag === "End" && way.next.signal._tag === "Failure") {
        const message = `the input of flow "${name}" is invalid: ${String(way.next.signal.error)}`
        return yield* fail(new InvalidPayload({ task: name, message }))
      }
      const computed = Result.try(() => given?.key ?? keyOf(graph, input, way, world))
      if (Result.isFailure(computed)) {
        const message = `the key of flow "${name}" cannot be computed: ${String(computed.failure)}`
        return yield* fail(new InvalidOption({ option: "key", message }))
      }
      const key = computed.success ?? client.generate(some.docket, name, fiber)
      const wrong = complaintOf(key)
      if (wrong !== undefined) {
        return yield* fail(new InvalidOption({ option: "key", message: `flow "${name}": ${wrong}` }))
      }
      if (isTooLong(key)) {
        return yield* fail(new LimitExceeded({ limit: maxKeyBytes, option: `the bytes of a key (flow "${name}")` }))
      }
      // the parts of a flow are kept together, as long as any of them would be
      const kept = Array.from(graph.tasks.values(), (task) => world.optionsOf(task).retention)
      const least = graph.endsWithGather ? leastWithMembers : 0
      const retention = {
        success: Math.max(least, ...kept.map(({ success }) => success)),
        failure: Math.max(least, ...kept.map(({ failure }) => failure))
      }
      const onExisting = given?.onExisting ?? "keep"
      const addition = yield* additionOf(world, way, { root: "" }, {
        due,
        key,
        onExisting,
        retention,
        trace: client.traceOf(fiber)
      })
      const [added] = yield* some.docket.addEncoded([addition], { atomic: true })
      return execution.makeWith(some.docket, reader(some.docket, graph), key, added!)
    })
  )
