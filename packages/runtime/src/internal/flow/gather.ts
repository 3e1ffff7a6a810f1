/**
 * Gathers: when a fan-out is over, and when its members begin. Pure.
 */
import type * as Interpreter from "@effect-docket/dsl/Interpreter"

/** A node that starts several runs. */
export type Fan = Interpreter.graph.Fan

/** When a run that waits for members goes on: when so many have succeeded, or failed, or ended. */
export interface Rule {
  readonly succeeded: number
  readonly failed: number
  readonly ended: number
}

/** How many of `n` members may be under way at once. */
export const windowOf = (node: Fan, n: number): number => node._tag === "ForEach" ? node.concurrency ?? n : n

/** How many have to succeed, and how many may not. */
const bounds = (node: Fan, n: number): { readonly succeeded: number; readonly failed: number } => {
  if (node._tag === "All") return { succeeded: n, failed: 1 }
  if (node._tag === "Outcomes") return { succeeded: n, failed: n }
  switch (node.policy._tag) {
    case "AllSucceed":
      return { succeeded: n, failed: 1 }
    case "AllSettled":
      return { succeeded: n, failed: n }
    case "Quorum":
      // a quorum of more than there are cannot be met from the beginning
      return { succeeded: node.policy.atLeast, failed: Math.max(0, n - node.policy.atLeast + 1) }
  }
}

/**
 * When it goes on, of `n` members of which `next` have been added. With a limit on how many run at once it adds more when
 * half of them have ended.
 */
export const ruleOf = (node: Fan, n: number, next: number): Rule => ({
  ...bounds(node, n),
  ended: next < n ? next - Math.floor(windowOf(node, n) / 2) : n
})

/**
 * When it goes on while members are tried again, those from `retry` on still to come, of which so many are known (`ahead`):
 * at once, or when half of those that may run at once have ended.
 */
export const retryRuleOf = (
  node: Fan,
  n: number,
  retry: number,
  ahead: { readonly succeeded: number; readonly failed: number },
  atOnce: boolean
): Rule => {
  const { failed, succeeded } = bounds(node, n)
  return {
    succeeded,
    failed: failed + ahead.failed,
    ended: atOnce ? 0 : retry + ahead.succeeded + ahead.failed - Math.floor(windowOf(node, n) / 2)
  }
}

/** Why the gather is over; `undefined` if it is not. */
export const verdictOf = (
  node: Fan,
  n: number,
  succeeded: number,
  failed: number,
  expired: boolean
): Interpreter.graph.Gathering["why"] | undefined => {
  const rule = bounds(node, n)
  const isQuorum = node._tag === "ForEach" && node.policy._tag === "Quorum"
  if (isQuorum && succeeded >= rule.succeeded) return "QuorumMet"
  if (isQuorum && failed >= rule.failed) return "QuorumImpossible"
  if (succeeded >= rule.succeeded || failed >= rule.failed || succeeded + failed >= n) return "AllSettled"
  return expired ? "DeadlinePassed" : undefined
}

/** How many milliseconds after the fan-out a member is due: spread evenly, a single one in the middle. */
export const memberDelay = (node: Fan, index: number, n: number, chance: number): number => {
  if (node._tag !== "ForEach" || node.over === undefined) return 0
  const { jitter = 0, over } = node
  const base = n === 1 ? over / 2 : (index * over) / (n - 1)
  // the interval to draw from stays inside of the window: see `agenda.ts` of the definitions
  const from = Math.max(0, base - jitter)
  const to = Math.min(over, base + jitter)
  return Math.round(from + chance * (to - from))
}
