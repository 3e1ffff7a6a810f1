/**
 * A flow as data: nodes that an interpreter walks. Built once by the combinators of `Flow`, never changed.
 *
 * A node holds the one before it in `self`; together they are a chain. The nodes it starts besides (a next step, a
 * branch, a handler) are chains of their own. Functions are kept as they were given: the types of the combinators have
 * checked that the values fit.
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import { pipeArguments } from "effect/Pipeable"
import * as Predicate from "effect/Predicate"
import type * as Schema from "effect/Schema"
import type * as Flow from "../Flow.ts"
import type * as Gather from "../Gather.ts"
import * as Task from "../Task.ts"
import * as options from "./options.ts"

/** Type identifier of flows: see `Flow.TypeId`. */
export const TypeId = "~@effect-docket/dsl/Flow"

/** A pure function of a flow. */
export type Fn = (value: never) => unknown

/** How long to wait: milliseconds, or computed (a `Duration.Input`) from the previous output. */
export type Wait = number | ((value: never) => Duration.Input)

/** Runs a task. */
export interface TaskNode {
  readonly _tag: "Task"
  readonly task: Task.Any
}
/** Passes the input on. */
export interface InputNode {
  readonly _tag: "Input"
  readonly schema: Schema.Top
}
/** Gives `flow` what `f` makes of the input. */
export interface MapInputNode {
  readonly _tag: "MapInput"
  readonly f: Fn
  readonly flow: Node
}
/** A named flow; `Key` and `Version` are in its annotations. `Again` in it runs all of it once more. */
export interface NamedNode {
  readonly _tag: "Named"
  readonly name: string
  readonly annotations: Context.Context<never>
  readonly flow: Node
}
/** Runs the named flow around it again, with its first input if there is no function for another one. */
export interface AgainNode {
  readonly _tag: "Again"
  readonly after: Wait
  readonly input: Fn | undefined
}
/** Runs `next` with the output of `self`. */
export interface AndThenNode {
  readonly _tag: "AndThen"
  readonly self: Node
  readonly next: Node
}
/** Makes another value of the output of `self`. */
export interface MapNode {
  readonly _tag: "Map"
  readonly self: Node
  readonly f: Fn
}
/** Waits and passes the output of `self` on. */
export interface SleepNode {
  readonly _tag: "Sleep"
  readonly self: Node
  readonly duration: Wait
}
/** Runs the case that has the `_tag` of the output of `self`. */
export interface MatchNode {
  readonly _tag: "Match"
  readonly self: Node
  readonly cases: ReadonlyMap<string, Node>
}
/** Runs `next` if the predicate holds for the output of `self`. */
export interface WhenNode {
  readonly _tag: "When"
  readonly self: Node
  readonly predicate: (value: never) => boolean
  readonly next: Node
}
/** Runs every branch with the output of `self`; all have to succeed. */
export interface AllNode {
  readonly _tag: "All"
  readonly self: Node
  readonly branches: ReadonlyMap<string, Node>
}
/** Runs every branch with the output of `self`, and collects how each one ended. */
export interface OutcomesNode {
  readonly _tag: "Outcomes"
  readonly self: Node
  readonly branches: ReadonlyMap<string, Node>
}
/** Runs `next` once per item and gathers the children. Durations are milliseconds. */
export interface ForEachNode {
  readonly _tag: "ForEach"
  readonly self: Node
  readonly next: Node
  readonly policy: Gather.Policy
  readonly items: Fn | undefined
  readonly over: number | undefined
  readonly jitter: number | undefined
  readonly concurrency: number | undefined
  readonly deadline: number | undefined
  readonly onRelease: "cancelRest" | "letRun"
}
/** Runs a handler with the error of `self` that has its tag. */
export interface CatchTagsNode {
  readonly _tag: "CatchTags"
  readonly self: Node
  readonly handlers: ReadonlyMap<string, Node>
}
/** Runs `undo` with the output of `self` if a later step fails. */
export interface CompensateNode {
  readonly _tag: "Compensate"
  readonly self: Node
  readonly undo: Node
}
/** Fails if `self` takes longer than this many milliseconds. */
export interface DeadlineNode {
  readonly _tag: "Deadline"
  readonly self: Node
  readonly limit: number
}

/** A node of the graph. Those without `self` begin a chain. */
export type Node =
  | TaskNode
  | InputNode
  | MapInputNode
  | NamedNode
  | AgainNode
  | AndThenNode
  | MapNode
  | SleepNode
  | MatchNode
  | WhenNode
  | AllNode
  | OutcomesNode
  | ForEachNode
  | CatchTagsNode
  | CompensateNode
  | DeadlineNode

/** What the public type of a flow does not show. */
interface Implementation {
  readonly node: Node
}

// ---------------------------------------------------------------------------------------------------------------------
// values
// ---------------------------------------------------------------------------------------------------------------------

const Proto = {
  [TypeId]: TypeId,
  pipe() {
    return pipeArguments(this, arguments)
  }
}

/** The flow of a node. Its type parameters are phantoms: who makes a flow knows them. */
export const make = <In, A, E, Tags extends string, R>(node: Node): Flow.Flow<In, A, E, Tags, R> =>
  Object.assign(Object.create(Proto) as Flow.Flow<In, A, E, Tags, R>, { node }) // its other properties have no value

/** The flow of a named node: a function, so that a class can extend it. */
export const makeNamed = <Name extends string, In, A, E, Tags extends string, R>(
  node: NamedNode
): Flow.Named<Name, In, A, E, Tags, R> => {
  function Flow() {}
  Object.setPrototypeOf(Flow, Proto)
  const fields = { _tag: node.name, annotations: node.annotations, node }
  // a function with the prototype and the fields of a named flow
  return Object.assign(Flow, fields) as unknown as Flow.Named<Name, In, A, E, Tags, R>
}

/** Tests whether a value is a flow. */
export const isFlow = (u: unknown): u is Flow.Flow<never, unknown, unknown, string, unknown> =>
  Predicate.hasProperty(u, TypeId)

/** Tests whether a value can be a step. */
export const isStep = (u: unknown): u is Flow.Any => Task.isTask(u) || isFlow(u)

/** The node of a task or a flow. */
export const node = (operation: string, option: string, step: unknown): Node =>
  Task.isTask(step)
    ? { _tag: "Task", task: step }
    : isFlow(step)
    ? (step as unknown as Implementation).node // every flow is made in this file
    : options.invalid(operation, option, `has to be a task or a flow, it is of type ${typeof step}`)

/** The node of a step that gets what `map` makes of the input. */
export const mapped = (operation: string, option: string, step: unknown, map: Fn | undefined): Node => {
  const flow = node(operation, option, step)
  return map === undefined ? flow : { _tag: "MapInput", f: map, flow }
}

/** The nodes of a record of steps. */
export const nodes = (
  operation: string,
  option: string,
  steps: Readonly<Record<string, unknown>>
): ReadonlyMap<string, Node> =>
  new Map(
    Object.entries(steps).map(([name, step]) => {
      // paths hold the name, and URIs cannot hold a lone surrogate
      if (!name.isWellFormed()) options.invalid(operation, option, `${JSON.stringify(name)} is not well-formed Unicode`)
      return [name, node(operation, `${option}.${name}`, step)]
    })
  )

/** A duration that ends, in milliseconds. */
export const millis = (operation: string, option: string, input: Duration.Input, minimum = 0): number => {
  const value = options.millis(operation, option, input, minimum)
  return Number.isFinite(value) ? value : options.invalid(operation, option, "has to be finite")
}

/** A duration that may be computed from the previous output. */
export const wait = (
  operation: string,
  option: string,
  input: Duration.Input | ((value: never) => Duration.Input)
): Wait => typeof input === "function" ? input : millis(operation, option, input)

/** Options of `Flow.forEach`, whatever the policy. */
export interface ForEachOptions {
  readonly policy?: Gather.Policy
  readonly items?: Fn
  readonly over?: Duration.Input | undefined
  readonly jitter?: Duration.Input | undefined
  readonly concurrency?: number | undefined
  readonly deadline?: Duration.Input | undefined
  readonly onRelease?: "cancelRest" | "letRun" | undefined
}

/** The node of `Flow.forEach`, its options read. */
export const forEach = (self: unknown, next: unknown, given: ForEachOptions): ForEachNode => {
  const operation = "Flow.forEach"
  const { concurrency, deadline, items, jitter, onRelease = "letRun", over, policy = { _tag: "AllSucceed" } } = given
  if (policy._tag === "Quorum") options.integer(operation, "policy.atLeast", policy.atLeast, 1)
  if (policy._tag !== "AllSucceed" && deadline === undefined) {
    options.invalid(operation, "deadline", "is missing; a gather that does not fail with its children needs an end")
  }
  return {
    _tag: "ForEach",
    self: node(operation, "self", self),
    next: node(operation, "next", next),
    policy,
    items,
    over: over === undefined ? undefined : millis(operation, "over", over),
    jitter: jitter === undefined ? undefined : millis(operation, "jitter", jitter),
    concurrency: concurrency === undefined ? undefined : options.integer(operation, "concurrency", concurrency, 1),
    deadline: deadline === undefined ? undefined : millis(operation, "deadline", deadline, 1),
    onRelease
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// walking
// ---------------------------------------------------------------------------------------------------------------------

/** The nodes of a chain, the first one first. */
export const chain = (last: Node): ReadonlyArray<Node> => {
  const nodes = [last]
  for (let node = last; "self" in node; node = node.self) nodes.push(node.self)
  return nodes.toReversed()
}

/** The chains that a node starts besides `self`, with their names where there can be several. */
export const children = (node: Node): ReadonlyArray<readonly [name: string | undefined, last: Node]> => {
  switch (node._tag) {
    case "MapInput":
    case "Named":
      return [[undefined, node.flow]]
    case "AndThen":
    case "When":
    case "ForEach":
      return [[undefined, node.next]]
    case "Compensate":
      return [[undefined, node.undo]]
    case "Match":
      return [...node.cases]
    case "All":
    case "Outcomes":
      return [...node.branches]
    case "CatchTags":
      return [...node.handlers]
    default:
      return []
  }
}

/** The path of a chain: that of the node that starts it, and its name if it has one. */
export const scope = (path: string, name: string | undefined): string =>
  name === undefined ? path : `${path}/${encodeURIComponent(name)}`

/** The path of a node: its position in its chain, after the path of the chain. */
export const position = (scope: string, index: number): string => scope === "" ? `${index}` : `${scope}/${index}`

/**
 * The nodes of a flow with their paths, in the order of a run that takes every branch. The path of a node does not
 * change when nodes are added after it. The steps of a named flow are numbered as if it had no name, so that a walk
 * begins inside of it.
 */
export function* walk(root: Node): Generator<readonly [path: string, node: Node]> {
  // a stack and not recursion, the next node on top: chains of thousands of steps are fine, however they are nested
  const pending: Array<readonly [path: string, node: Node]> = []
  const push = (scope: string, last: Node) => {
    const nodes = chain(last)
    for (let i = nodes.length - 1; i >= 0; i--) pending.push([position(scope, i), nodes[i]!])
  }
  push("", root._tag === "Named" ? root.flow : root)
  while (pending.length > 0) {
    const [path, node] = pending.pop()!
    yield [path, node]
    for (const [name, last] of children(node).toReversed()) push(scope(path, name), last)
  }
}

const version = (node: NamedNode): number => Context.get(node.annotations, options.Version)

/** Throws the typed error of a flow that can never work. */
export const validate = (operation: string, root: NamedNode): void => {
  const tasks = new Map<string, Task.Any>()
  const flows = new Map<string, NamedNode>([[`${root.name}/${version(root)}`, root]])
  const around: Array<readonly [path: string, node: Node]> = [] // what decides whether `Again` makes sense, innermost last
  for (const [path, node] of walk(root)) {
    while (around.length > 0 && !path.startsWith(`${around.at(-1)![0]}/`)) around.pop()
    switch (node._tag) {
      case "Task": {
        const known = tasks.get(node.task._tag)
        if (known !== undefined && known.payloadSchema !== node.task.payloadSchema) {
          options.invalid(
            operation,
            "flow",
            `two different tasks have the tag "${node.task._tag}"; tags are unique in a flow`
          )
        }
        tasks.set(node.task._tag, node.task)
        break
      }
      case "Named": {
        const id = `${node.name}/${version(node)}`
        if ((flows.get(id) ?? node) !== node) {
          options.invalid(operation, "flow", `two different flows are "${node.name}", version ${version(node)}`)
        }
        flows.set(id, node)
        around.push([path, node])
        break
      }
      case "All":
      case "Outcomes":
      case "ForEach":
      case "Compensate":
        around.push([path, node])
        break
      case "Again": {
        const [where, inside] = around.at(-1) ?? []
        if (inside !== undefined && inside._tag !== "Named") {
          options.invalid(
            operation,
            "flow",
            `\`Flow.again\` at ${path} is inside of the ${inside._tag} at ${where}, and a flow runs again as a whole; ` +
              "give the part that is to run again a name with `Flow.make`"
          )
        }
        break
      }
    }
  }
}
