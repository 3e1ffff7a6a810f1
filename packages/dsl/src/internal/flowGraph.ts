/**
 * The graph of a named flow, indexed by path, and the walk through it.
 *
 * The walk is a pure function of a place, a signal (a value or a failure) and the graph: it goes on through everything that
 * is a function of values alone, and stops where the world is needed: a task, a fan-out, a sleep, the end. What it passed on
 * the way (limits that began, compensations that may be needed) is collected in a `Trail`.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Schema from "effect/Schema"
import type * as Flow from "../Flow.ts"
import type * as Task from "../Task.ts"
import { Defect, TaskFailure } from "../TaskFailure.ts"
import * as ast from "./flow.ts"
import * as options from "./options.ts"
import type { EncodedMember } from "./wire.ts"

/** A chain of the graph. */
export interface Scope {
  readonly path: string
  readonly nodes: ReadonlyArray<ast.Node>
  /** The path of the node that starts it; `undefined` for the first chain of the flow. */
  readonly parent: string | undefined
  /** Positions of its limits. */
  readonly limits: ReadonlyArray<readonly [index: number, millis: number]>
}

/** A node that starts several runs. */
export type Fan = ast.AllNode | ast.OutcomesNode | ast.ForEachNode

/**
 * Where a value comes from: the stored text of how the step at a path ended, the input of a chain, or the members of a
 * gather. Values are made from it again when they are needed, by the same pure functions.
 */
export type Source =
  | { readonly p: string; readonly e: string }
  | { readonly p: string; readonly i: string }
  | { readonly p: string; readonly g: Gathering }

/** A gather that is over: its members, kept beside the flow, or with it. */
export interface Gathering {
  readonly id: string
  readonly n: number
  readonly why: "AllSettled" | "QuorumMet" | "QuorumImpossible" | "DeadlinePassed"
  readonly at: number
  readonly all?: ReadonlyArray<EncodedMember | null> | undefined
  /** Which had not ended when it was over, from one index to another: what those say later is too late. */
  readonly open?: ReadonlyArray<readonly [from: number, to: number]> | undefined
}

/** Where a failure comes from: the stored text of the step at a path, or of the flow itself. */
export interface Blame {
  readonly p: string | undefined
  readonly e: string
}

/** A compensation that may be needed: the path of its node, and where its input comes from. */
export interface Undo {
  readonly p: string
  readonly from: Source
}

/** What flows from node to node. A failure without blame is one of the flow's own functions. */
export type Signal =
  | { readonly _tag: "Value"; readonly value: unknown; readonly from: Source | undefined }
  | { readonly _tag: "Failure"; readonly error: unknown; readonly blame: Blame | undefined }

/** Where a walk stops. */
export type Stop =
  | { readonly _tag: "Task"; readonly path: string; readonly task: Task.Any; readonly input: unknown }
  | { readonly _tag: "Input"; readonly path: string; readonly schema: Schema.Top; readonly input: unknown }
  | {
    readonly _tag: "Fan"
    readonly path: string
    readonly node: Fan
    readonly value: unknown
    readonly from: Source | undefined
  }
  | {
    readonly _tag: "Sleep"
    readonly path: string
    readonly after: number
    readonly value: unknown
    readonly from: Source | undefined
  }
  /** The node that was looked for. */
  | { readonly _tag: "At"; readonly path: string; readonly value: unknown; readonly from: Source | undefined }
  | { readonly _tag: "End"; readonly signal: Signal }
  | {
    readonly _tag: "Again"
    /** The named flow that runs again: the path of its node, `""` for the whole. */
    readonly flow: string
    readonly after: number
    /** Absent: its first input. */
    readonly input: { readonly value: unknown } | undefined
  }

/** What a walk has passed. */
export interface Trail {
  /** When the limits that are running end, by the path of their node. */
  readonly limits: Map<string, number>
  /** Compensations of what has succeeded, oldest first. */
  readonly undo: Array<Undo>
  /** The inputs of the named flows that run again with their first input. */
  readonly inputs: Map<string, Source>
  /** Chains that were chosen: cases, handlers. Before a handler, `!` and where the failure was that it caught. */
  readonly chosen: Array<string>
  /** Named flows that began before anything was stored, and whose input is asked for later. */
  readonly unknown: Array<string>
}

/** A trail that starts from what an earlier one has passed. */
export const trail = (from?: Trail): Trail => ({
  limits: new Map(from?.limits),
  undo: [...from?.undo ?? []],
  inputs: new Map(from?.inputs),
  chosen: [...from?.chosen ?? []],
  unknown: [...from?.unknown ?? []]
})

const split = (path: string): readonly [scope: string, index: number] => {
  const slash = path.lastIndexOf("/")
  return slash === -1 ? ["", Number(path)] : [path.slice(0, slash), Number(path.slice(slash + 1))]
}

const longest = 4e15

/** The graph of a named flow. */
export class Graph {
  readonly name: string
  readonly version: number
  readonly key: ((input: unknown) => string) | undefined
  /** The tasks that it runs, by tag. */
  readonly tasks: ReadonlyMap<string, Task.Any>
  readonly #scopes = new Map<string, Scope>()
  /** Named flows in which `Again` asks for the first input. */
  readonly #restarts = new Set<string>()
  /** Whether its value may be that of a gather. */
  readonly endsWithGather: boolean
  /** Whether something in it can be undone. */
  readonly compensates: boolean

  constructor(root: ast.NamedNode) {
    this.name = root.name
    this.version = Context.get(root.annotations, options.Version)
    this.key = Context.get(root.annotations, options.Key) as Graph["key"] // `Flow.make` takes no other
    let compensates = false
    const tasks = new Map<string, Task.Any>()
    const pending: Array<readonly [scope: string, last: ast.Node, parent: string | undefined]> = [
      ["", root.flow, undefined]
    ]
    while (pending.length > 0) {
      const [path, last, parent] = pending.pop()!
      const nodes = ast.chain(last)
      const limits = nodes.flatMap((node, index) => node._tag === "Deadline" ? [[index, node.limit] as const] : [])
      this.#scopes.set(path, { path, nodes, parent, limits })
      nodes.forEach((node, index) => {
        const here = ast.position(path, index)
        if (node._tag === "Task") tasks.set(node.task._tag, node.task)
        if (node._tag === "Again" && node.input === undefined) this.#restarts.add(this.around(here))
        // what was undone can only be done again from the beginning
        if (node._tag === "Compensate") {
          this.#restarts.add("")
          compensates = true
        }
        for (const [name, last] of ast.children(node)) pending.push([ast.scope(here, name), last, here])
      })
    }
    this.tasks = tasks
    this.compensates = compensates
    this.endsWithGather = this.#ends("")
  }

  /** Whether the value of a chain may be that of a gather. */
  #ends(scope: string): boolean {
    const { nodes, path } = this.scope(scope)
    for (let index = nodes.length - 1; index >= 0; index--) {
      const node = nodes[index]!
      const here = ast.position(path, index)
      switch (node._tag) {
        case "All":
        case "Outcomes":
        case "ForEach":
          return true
        case "Map":
        case "Sleep":
        case "Compensate":
        case "Deadline":
          continue
        case "CatchTags":
        case "When":
          if (ast.children(node).some(([name]) => this.#ends(ast.scope(here, name)))) return true
          continue
        default:
          return ast.children(node).some(([name]) => this.#ends(ast.scope(here, name)))
      }
    }
    return false
  }

  /** A chain. A path that is not one is a bug, or a flow that was changed without a new version. */
  scope(path: string): Scope {
    const scope = this.#scopes.get(path)
    if (scope === undefined) throw this.#changed(path)
    return scope
  }

  /** The task that is all of a chain, and its path; `undefined` if there is more to it. */
  only(path: string): { readonly path: string; readonly task: Task.Any } | undefined {
    const { nodes: [node], nodes: { length } } = this.scope(path)
    return length === 1 && node?._tag === "Task" ? { path: ast.position(path, 0), task: node.task } : undefined
  }

  /** A node, and its place in its chain. */
  at(path: string): readonly [node: ast.Node, scope: Scope, index: number] {
    const [scope, index] = split(path)
    const chain = this.scope(scope)
    const node = chain.nodes[index]
    if (node === undefined) throw this.#changed(path)
    return [node, chain, index]
  }

  #changed(path: string): Error {
    return new Error(
      `flow "${this.name}", version ${this.version}, has no step at ${path}: was it changed without a new version?`
    )
  }

  /** The path of the named flow around a node; `""` for the whole. */
  around(path: string): string {
    let [scope] = split(path)
    while (scope !== "") {
      const { parent } = this.scope(scope)
      if (parent === undefined) return ""
      if (this.at(parent)[0]._tag === "Named") return parent
      scope = split(parent)[0]
    }
    return ""
  }

  /** Whether the first input of a named flow is asked for later. */
  keepsInput(path: string): boolean {
    return this.#restarts.has(path)
  }

  /** The first chain of a named flow. */
  body(path: string): string {
    return path === "" ? "" : ast.scope(path, undefined)
  }

  /** Begins the limits of chains at their first node: from one down to that of the node at `path`. */
  begin({ into, path }: { readonly into: string; readonly path: string }, at: number, { limits }: Trail): void {
    let below: string | undefined = path
    while (below !== undefined) {
      const [scope, index] = split(below)
      const chain = this.scope(scope)
      for (const [place, millis] of chain.limits) {
        if (place > index) limits.set(ast.position(scope, place), at + millis)
      }
      below = scope === into ? undefined : chain.parent
    }
  }

  /**
   * Walks on from behind a node, or into a chain, until it stops. `until` is a node to stop at, before anything happens
   * there. The chain `root` is the whole of the world: its end is the end.
   */
  walk(
    start: { readonly after: string; readonly signal: Signal } | {
      readonly into: string
      readonly value: unknown
      readonly from: Source | undefined
    },
    { now, root, trail, until }: {
      readonly root: string
      readonly now: number
      readonly trail: Trail
      readonly until?: string | undefined
    }
  ): Stop {
    let scope: Scope
    let index: number
    let signal: Signal
    /** Where it failed last. */
    let failedAt = "after" in start ? start.after : ""
    const fail = (error: unknown): void => {
      failedAt = ast.position(scope.path, index - 1)
      signal = { _tag: "Failure", error: this.#defect(error), blame: undefined }
    }
    /** Calls a function of the flow; one that throws is a failure there. */
    const call = <A>(f: () => A): Option.Option<A> => {
      const result = Result.try(f)
      if (Result.isSuccess(result)) return Option.some(result.success)
      fail(result.failure)
      return Option.none()
    }
    const enter = (path: string, value: unknown, from: Source | undefined): void => {
      scope = this.scope(path)
      index = 0
      signal = { _tag: "Value", value, from }
      for (const [at, millis] of scope.limits) trail.limits.set(ast.position(path, at), now + millis)
    }
    if ("into" in start) enter(start.into, start.value, start.from)
    else {
      const [, chain, at] = this.at(start.after)
      scope = chain
      index = at + 1
      signal = start.signal
    }
    while (true) {
      const node = scope!.nodes[index!]
      if (node === undefined) {
        const { parent } = scope!
        if (scope!.path === root || parent === undefined) return { _tag: "End", signal: signal! }
        const [above, chain, at] = this.at(parent)
        if (above._tag === "When" && signal!._tag === "Value") {
          signal = { ...signal!, value: Option.some(signal!.value) }
        }
        scope = chain
        index = at + 1
        continue
      }
      const path = ast.position(scope!.path, index!)
      index!++
      if (signal!._tag === "Failure") {
        if (node._tag === "Deadline") trail.limits.delete(path)
        if (node._tag !== "CatchTags") continue
        const { error } = signal!
        const tag = tagOf(error)
        if (tag === undefined || !node.handlers.has(tag)) continue
        const handler = ast.scope(path, tag)
        trail.chosen.push(`!${failedAt}`, handler)
        // it begins with a task or an input, which is a source of its own
        enter(handler, error, undefined)
        continue
      }
      const { from, value } = signal!
      if (path === until) return { _tag: "At", path, value, from }
      switch (node._tag) {
        case "Task":
          return { _tag: "Task", path, task: node.task, input: value }
        case "Input":
          return { _tag: "Input", path, schema: node.schema, input: value }
        case "Named":
          if (this.keepsInput(path)) {
            if (from === undefined) trail.unknown.push(path)
            else trail.inputs.set(path, from)
          }
          enter(this.body(path), value, from)
          break
        case "MapInput": {
          const input = call(() => node.f(value as never))
          if (Option.isSome(input)) enter(ast.scope(path, undefined), input.value, from)
          break
        }
        case "Again": {
          const request = call(() => ({
            after: millisOf(node.after, value),
            input: node.input && { value: node.input(value as never) }
          }))
          if (Option.isNone(request)) break
          return { _tag: "Again", flow: this.around(path), ...request.value }
        }
        case "AndThen":
          enter(ast.scope(path, undefined), value, from)
          break
        case "Map": {
          const mapped = call(() => node.f(value as never))
          if (Option.isSome(mapped)) signal = { _tag: "Value", value: mapped.value, from }
          break
        }
        case "Sleep": {
          // who looks for something has slept here before
          if (until !== undefined) break
          const millis = call(() => millisOf(node.duration, value))
          if (Option.isSome(millis)) return { _tag: "Sleep", path, after: millis.value, value, from }
          break
        }
        case "Match": {
          const tag = tagOf(value)
          if (tag === undefined || !node.cases.has(tag)) {
            fail(new Error(`\`Flow.match\` at ${path} has no case for ${JSON.stringify(tag)}`))
            break
          }
          const chosen = ast.scope(path, tag)
          trail.chosen.push(chosen)
          enter(chosen, value, from)
          break
        }
        case "When": {
          const holds = call(() => node.predicate(value as never))
          if (Option.isNone(holds)) break
          if (holds.value) {
            const chosen = ast.scope(path, undefined)
            trail.chosen.push(chosen)
            enter(chosen, value, from)
          } else signal = { _tag: "Value", value: Option.none(), from }
          break
        }
        case "All":
        case "Outcomes":
        case "ForEach":
          return { _tag: "Fan", path, node, value, from }
        case "CatchTags":
          break
        case "Compensate":
          if (from !== undefined) trail.undo.push({ p: path, from })
          break
        case "Deadline":
          trail.limits.delete(path)
          break
      }
    }
  }

  /** A failure of the flow itself. */
  #defect(error: unknown): TaskFailure {
    return new TaskFailure({ task: this.name, key: "", reason: new Defect({ defect: error }) })
  }

  /** The limits that end with the one at this path: they began inside of it. */
  within(limit: string, other: string): boolean {
    if (limit === other) return true
    const [scope, index] = split(limit)
    const prefix = scope === "" ? "" : `${scope}/`
    if (!other.startsWith(prefix)) return false
    return Number.parseInt(other.slice(prefix.length), 10) <= index
  }
}

const tagOf = (value: unknown): string | undefined => {
  const tag = typeof value === "object" && value !== null ? Reflect.get(value, "_tag") : undefined
  return typeof tag === "string" ? tag : undefined
}

/** A wait in milliseconds. Throws if it was computed, and is none. */
const millisOf = (wait: ast.Wait, value: unknown): number => {
  if (typeof wait === "number") return wait
  const millis = Duration.toMillis(Duration.fromInputUnsafe(wait(value as never)))
  if (!(millis <= longest)) throw new Error("a computed time has to be finite")
  return Math.max(0, Math.ceil(millis))
}

const graphs = new WeakMap<object, Graph>()

/** The graph of a named flow, built once. */
export const graphOf = (flow: Flow.AnyNamed): Graph => {
  let graph = graphs.get(flow)
  if (graph === undefined) {
    const node = ast.node(`flow "${flow._tag}"`, "flow", flow)
    if (node._tag !== "Named") return options.invalid("Flow", "flow", "has to have a name: see `Flow.make`")
    graphs.set(flow, graph = new Graph(node))
  }
  return graph
}

/** The chain that a node starts, by name where there can be several. */
export const chainOf = ast.scope
