/**
 * How the nodes of a flow are, as far as the state of its run says it. Pure.
 */
import type { StepState } from "../Flow.ts"
import * as ast from "./flow.ts"
import type { Graph } from "./flowGraph.ts"
import * as flowRun from "./flowRun.ts"
import type { EncodedRun } from "./wire.ts"

/** Where a run is, and whether it has ended there. */
const currentOf = (run: EncodedRun): { readonly path: string | undefined; readonly state: StepState } => {
  const { at } = flowRun.read(run.thread!) // the caller has looked
  const path = "p" in at
    ? at.p
    : at.t === "go"
    ? at.past ?? at.from.p
    : at.t === "drain"
    ? at.fan.p
    : "why" in at && at.why.t === "failed"
    ? at.why.blame.p
    : undefined
  switch (run.state) {
    case "Completed":
      return { path: undefined, state: "Done" }
    case "Failed":
      return { path, state: "Failed" }
    case "Cancelled":
    case "Skipped":
      return { path, state: "Cancelled" }
    default:
      return { path, state: at.t === "undo" || at.t === "drain" ? "Failed" : "Active" }
  }
}

/** The state of each node, by path. */
export const stepsOf = (graph: Graph, run: EncodedRun): ReadonlyMap<string, StepState> => {
  const steps = new Map<string, StepState>()
  const { chosen } = flowRun.read(run.thread!).trail // as above
  const taken = new Set(chosen)
  const current = currentOf(run)

  /** Whether a chain was left out of a part that is done: a case that was not chosen, a compensation. */
  const isLeftOut = (node: ast.Node, chain: string): boolean =>
    node._tag === "Compensate" ||
    ((node._tag === "Match" || node._tag === "When" || node._tag === "CatchTags") && !taken.has(chain))

  /** Marks a chain whose nodes are all alike, but for what was chosen and what was not. */
  const fill = (scope: string, state: StepState): void => {
    graph.scope(scope).nodes.forEach((node, index) => {
      const path = ast.position(scope, index)
      steps.set(path, state)
      for (const [name] of ast.children(node)) {
        const chain = ast.scope(path, name)
        fill(chain, state === "Done" && isLeftOut(node, chain) ? "Skipped" : state)
      }
    })
  }
  const mark = (scope: string, path: string): void => {
    let isPast = true
    graph.scope(scope).nodes.forEach((node, index) => {
      const here = ast.position(scope, index)
      const isHere = here === path
      if (!isHere && !path.startsWith(`${here}/`)) {
        steps.set(here, isPast ? "Done" : "Waiting")
        for (const [name] of ast.children(node)) {
          const chain = ast.scope(here, name)
          fill(chain, !isPast ? "Waiting" : isLeftOut(node, chain) ? "Skipped" : "Done")
        }
        return
      }
      isPast = false
      steps.set(here, isHere ? current.state : "Done")
      for (const [name] of ast.children(node)) {
        const chain = ast.scope(here, name)
        if (!isHere && path.startsWith(`${chain}/`)) mark(chain, path)
        else fill(chain, isHere ? current.state : "Skipped")
      }
    })
  }

  if (current.path === undefined) fill("", current.state)
  else mark("", current.path)
  // a failure that was caught: what lies between its place and its handler did not run
  for (const failure of chosen) {
    if (failure.startsWith("!")) skip(graph, failure.slice(1), taken, steps)
  }
  return steps
}

const skip = (
  graph: Graph,
  failed: string,
  taken: ReadonlySet<string>,
  steps: Map<string, StepState>
): void => {
  steps.set(failed, "Failed")
  let path: string | undefined = failed
  while (path !== undefined) {
    const [, scope, index]: ReturnType<Graph["at"]> = graph.at(path)
    for (let next = index + 1; next < scope.nodes.length; next++) {
      const node = scope.nodes[next]!
      const here = ast.position(scope.path, next)
      if (
        node._tag === "CatchTags" && Array.from(node.handlers.keys()).some((tag) => taken.has(ast.scope(here, tag)))
      ) {
        return
      }
      for (const known of steps.keys()) {
        if (known === here || known.startsWith(`${here}/`)) steps.set(known, "Skipped")
      }
    }
    path = scope.parent
  }
}
