/**
 * Mutations of flows: the walk through the graph, and the interpreter.
 */
import { type Mutation, onMemory, unit } from "./mutation.ts"

const graph = "packages/dsl/src/internal/flowGraph.ts"
const run = "packages/dsl/src/internal/flowRun.ts"
const interpret = "packages/runtime/src/internal/flow/interpret.ts"
const gather = "packages/runtime/src/internal/flow/gather.ts"
const members = "packages/runtime/src/internal/flow/members.ts"

const edges = "packages/runtime/test/FlowEdges.test.ts"
const limits = "packages/runtime/test/FlowLimits.test.ts"

/** Mutations of flows. */
export const flows: ReadonlyArray<Mutation> = [
  {
    id: "flows/undo-in-order",
    file: graph,
    find: "trail.undo.push({ p: path, from })",
    replace: "trail.undo.unshift({ p: path, from })",
    breaks: "what was done first is undone first",
    noticedBy: onMemory("a flow fails → compensations run in reverse")
  },
  {
    id: "flows/catch-any-tag",
    file: graph,
    find: "if (tag === undefined || !node.handlers.has(tag)) continue\n        const handler = ast.scope(path, tag)",
    replace: "const handler = ast.scope(path, node.handlers.keys().next().value!)",
    breaks: "an error is caught by the handler of another one",
    noticedBy: onMemory("a struck step", "a deadline passes in", "a typed error")
  },
  {
    id: "flows/limit-of-what-has-ended",
    file: graph,
    find: `case "Deadline":\n          trail.limits.delete(path)\n          break`,
    replace: `case "Deadline":\n          break`,
    breaks: "a limit ends the flow although the steps that it is for have ended in time",
    noticedBy: unit(limits, "a limit ends with the steps that it is for")
  },
  {
    id: "flows/match-first-case",
    file: graph,
    find: "const chosen = ast.scope(path, tag)",
    replace: "const chosen = ast.scope(path, node.cases.keys().next().value!)",
    breaks: "a value goes into the first branch, whatever it is",
    noticedBy: onMemory("match on a tagged success")
  },
  {
    id: "flows/passed-before-the-sleep",
    file: run,
    find: "if (slept !== undefined && hasPassed(slept.origin.trail, passed)) {",
    replace: "if (slept === undefined && hasPassed(before, passed) && false) {",
    breaks: "what is undone behind a sleep is undone by a cancel while it sleeps",
    noticedBy: unit(edges, "a limit behind a sleep counts", "what is undone behind a sleep")
  },
  {
    id: "flows/earlier-round-undone",
    file: interpret,
    find: "trail.undo.splice(0, Infinity, ...passed.undo.filter(({ p }) => !isInside(p)))\n",
    replace: "",
    breaks: "a later round that fails undoes what an earlier one has done",
    noticedBy: unit(limits, "a round that fails undoes what it has done")
  },
  {
    id: "flows/round-not-counted",
    file: interpret,
    find: "round: run.state.round + 1",
    replace: "round: run.state.round",
    breaks: "two rounds of a flow have the same keys for the world outside",
    noticedBy: unit(limits, "a step has another key in each round")
  },
  {
    id: "flows/limits-of-an-earlier-round",
    file: interpret,
    find: "if (isInside(path)) trail.limits.delete(path)\n",
    replace: "",
    breaks: "the limits of a flow that runs again count from its first round",
    noticedBy: unit(limits, "a limit of a branch ends with its round")
  },
  {
    id: "flows/one-member-too-many",
    file: interpret,
    find: "Math.min(at.n, ended + windowOf(node, at.n))",
    replace: "Math.min(at.n, ended + windowOf(node, at.n) + 1)",
    breaks: "one member more than the concurrency of the fan-out",
    noticedBy: onMemory("concurrency of a fan-out")
  },
  {
    id: "flows/undo-while-members-run",
    file: interpret,
    find: "failed: at.n + 1, ended })",
    replace: "failed: at.n + 1, ended: 0 })",
    breaks: "what was done is undone while cancelled members still do more",
    noticedBy: unit(limits, "a cancel undoes nothing while members still run")
  },
  {
    id: "flows/undo-of-members-forgotten",
    file: members,
    find: `if (member?._tag === "Done") trail.undo.push(...readEnd(member.text)?.undo ?? [])\n`,
    replace: "",
    breaks: "what a branch has done is not undone when another one fails",
    noticedBy: onMemory("what a branch has done is undone")
  },
  {
    id: "flows/failing-undo-ends-the-undoing",
    file: interpret,
    find: "return undo(run, trail, at.i - 1, at.why)",
    replace: `return undo(run, trail, run.thread.gathered?.failed === 1 ? -1 : at.i - 1, at.why)`,
    breaks: "after a compensation that fails, the others do not run",
    noticedBy: onMemory("a failing compensation becomes a dead letter")
  },
  {
    id: "flows/last-limit-first",
    file: interpret,
    find: "limit[1] < first[1]",
    replace: "limit[1] > first[1]",
    breaks: "of two limits, the wrong one is said to have passed",
    noticedBy: unit(limits, "of two limits, the first that passes")
  },
  {
    id: "flows/cancel-of-a-step-does-not-undo",
    file: interpret,
    find: `happened._tag === "Cancelled" ? end(run, trail, { t: "cancelled" }) : expire(run)`,
    replace: `happened._tag === "Cancelled" ? Effect.succeed({ change: { _tag: "Cancelled" } }) : expire(run)`,
    breaks: "a cancelled flow leaves what it has done",
    noticedBy: unit(limits, "a cancel of a step undoes")
  },
  {
    id: "flows/retried-all-at-once",
    file: interpret,
    find: "let room = windowOf(node, at.n) - underWay",
    replace: "let room = at.n",
    breaks: "a redrive has more members run at once than the fan-out allows",
    noticedBy: onMemory("a gather with few at once whose flow ran out of time is redriven")
  },
  {
    id: "flows/retry-counts-failures-to-come",
    file: interpret,
    find: "const failed = said - (at.retry === undefined ? 0 : at.ahead?.failed ?? 0)",
    replace: "const failed = said",
    breaks: "a redriven gather fails because of members that are still to be tried again",
    noticedBy: onMemory("a gather of 1,200 that failed is redriven")
  },
  {
    id: "flows/over-one-early",
    file: gather,
    find: "succeeded + failed >= n) return",
    replace: "succeeded + failed >= n - 1) return",
    breaks: "a gather is over before its last member has ended",
    noticedBy: onMemory("the deadline passes → the join runs")
  },
  {
    id: "flows/quorum-hangs",
    file: gather,
    find: "Math.max(0, n - node.policy.atLeast + 1)",
    replace: "n",
    breaks: "a quorum that cannot be met any more is waited for",
    noticedBy: onMemory("quorum → released")
  },
  {
    id: "flows/single-at-the-start",
    file: gather,
    find: "n === 1 ? over / 2",
    replace: "n === 1 ? 0",
    breaks: "a single member that is scattered begins at once",
    noticedBy: unit(limits, "a single member that is scattered")
  }
]
