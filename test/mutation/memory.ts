/**
 * Mutations of the store in memory.
 */
import { type Mutation, onMemory, unit } from "./mutation.ts"

const additions = "packages/runtime/src/internal/memory/additions.ts"
const claims = "packages/runtime/src/internal/memory/claims.ts"
const docket = "packages/runtime/src/internal/memory/docket.ts"
const flows = "packages/runtime/src/internal/memory/flows.ts"
const runs = "packages/runtime/src/internal/memory/runs.ts"
const settlements = "packages/runtime/src/internal/memory/settlements.ts"
const gates = "packages/runtime/src/internal/memory/gates.ts"
const part = "packages/runtime/src/internal/memory/part.ts"
const groups = "packages/runtime/src/internal/memory/groups.ts"

/** Mutations of the store in memory. */
export const memory: ReadonlyArray<Mutation> = [
  {
    id: "memory/fence-token",
    file: settlements,
    find: "run.generation === generation && run.token === token ? run : undefined",
    replace: "run.generation === generation ? run : undefined",
    breaks: "a worker whose lease is over settles the run of another one",
    noticedBy: onMemory("worker stops without a word")
  },
  {
    id: "memory/duplicate-applied",
    file: settlements,
    find: `?.settledToken === settlement.token ? "Duplicate" : "Lost"`,
    replace: `?.settledToken === settlement.token ? "Applied" : "Lost"`,
    breaks: "a settlement that was sent twice is said to have been applied twice",
    noticedBy: onMemory("the reply to a settlement is lost after it was applied")
  },
  {
    id: "memory/duplicate-unknown",
    file: settlements,
    find: `?.settledToken === settlement.token ? "Duplicate" : "Lost"`,
    replace: `?.settledToken === settlement.token ? "Lost" : "Lost"`,
    breaks: "a worker warns of a lost claim although its settlement counts",
    noticedBy: onMemory("the reply to a settlement is lost after it was applied")
  },
  {
    id: "memory/outcome-generation",
    file: docket,
    find: "run.outcome !== undefined && run.outcomeGeneration >= generation ? run.outcome : undefined",
    replace: "run.outcome",
    breaks: "who waits for this cycle of a perpetual run gets the value of the one before",
    noticedBy: onMemory("a perpetual run settles", "waiting on a perpetual")
  },
  {
    id: "memory/redrive-generation",
    file: additions,
    find: ": known.generation !== addition.redrive || !isSettled(known.state)",
    replace: ": !isSettled(known.state)",
    breaks: "a redrive repeats a run that was added again meanwhile",
    noticedBy: onMemory("redrive without a repair keeps the stored payload")
  },
  {
    id: "memory/no-successor-after-failure",
    file: settlements,
    find: "if (successor === undefined || run.cancelling) {",
    replace: `if (successor === undefined || run.cancelling || to === "Failed") {`,
    breaks: "a perpetual task ends for ever with its first failure",
    noticedBy: onMemory("body fails, exhausts its retries")
  },
  {
    id: "memory/successor-of-cancelled",
    file: settlements,
    find: "if (successor === undefined || run.cancelling) {",
    replace: "if (successor === undefined) {",
    breaks: "a cancelled perpetual task goes on",
    noticedBy: onMemory("running K → cancel → it ends all the same")
  },
  {
    id: "memory/attempt-of-successor",
    file: settlements,
    find: "run.generation = this.#runs.next()\n    run.attempt = 0",
    replace: "run.generation = this.#runs.next()",
    breaks: "a perpetual run begins with the attempts of the one before it",
    noticedBy: onMemory("body fails, exhausts its retries")
  },
  {
    id: "memory/renewal-does-not-extend",
    file: docket,
    find: `return "Lost"\n      this.#runs.extend(run, session, now)`,
    replace: `return "Lost"`,
    breaks: "a body that is longer than its lease runs twice",
    noticedBy: onMemory("a body longer than the lease")
  },
  {
    id: "memory/cancel-forgotten-at-take-over",
    file: settlements,
    find: `if (run.cancelling) return this.abort(run, "takeOver", now)\n`,
    replace: "",
    breaks: "a cancelled run whose worker died runs again",
    noticedBy: onMemory("K's worker died → cancel")
  },
  {
    id: "memory/loss-not-counted",
    file: settlements,
    find: "run.lost++",
    replace: "",
    breaks: "a body that kills its process kills all of them, for ever",
    noticedBy: onMemory("a body that kills its process")
  },
  {
    id: "memory/retention-timer",
    file: settlements,
    find: "this.#runs.retentions.add(run, retention, now)\n      this.#runs.arm(run.until)",
    replace: "this.#runs.retentions.add(run, retention, now)",
    breaks: "settled runs of an idle docket are kept for ever",
    noticedBy: unit("packages/runtime/test/MemoryStore.test.ts", "has a timer for the earliest")
  },
  {
    id: "memory/retention-of-failures",
    file: settlements,
    find: `to === "Failed" ? run.retention.failure : run.retention.success`,
    replace: "run.retention.success",
    breaks: "dead letters are gone before anybody has read them",
    noticedBy: onMemory("settled runs expire after their retention")
  },
  {
    id: "memory/early",
    file: docket,
    find: "if (run === undefined || run.due > now) break",
    replace: "if (run === undefined || run.due > now + 1) break",
    breaks: "a run starts a millisecond before it is due",
    noticedBy: unit("packages/runtime/test/MemoryStore.test.ts", "gives nobody a run a millisecond before it is due")
  },
  {
    id: "memory/release-counts",
    file: settlements,
    find: "else run.attempt--\n",
    replace: `else if (change._tag === "Snooze") run.attempt--\n`,
    breaks: "each deploy takes an attempt from the runs that it interrupts",
    noticedBy: onMemory("a worker stops with bodies running")
  },
  {
    id: "memory/released-goes-last",
    file: runs,
    find: `new Set<Transition>(["release", "takeOver",`,
    replace: `new Set<Transition>(["takeOver",`,
    breaks: "what a worker gave back waits behind everything that came since",
    noticedBy: onMemory("what is released comes before what arrived later")
  },
  {
    id: "memory/strike-not-asked",
    file: claims,
    find: "group.isBetween ? undefined : this.#strikes.find(group.task, run.payload, now)",
    replace: "undefined",
    breaks: "runs that were ready when their task was struck start all the same",
    noticedBy: onMemory("task struck → ready runs do not start")
  },
  {
    id: "memory/atomic-within-batch",
    file: additions,
    find: "if (additions.length > 1) before.add(key)",
    replace: "",
    breaks: "a key that stands twice in a batch that has to be new is written once",
    noticedBy: onMemory("one batch with a key twice")
  },
  {
    id: "memory/debounce-winner-kept",
    file: settlements,
    find: "run.heldIn = undefined\n    this.#runs.gates.settled(run)\n    run.settledAt = now",
    replace: "run.heldIn = undefined\n    run.settledAt = now",
    breaks: "after the cancel of a debounced run, additions join what will never run",
    noticedBy: onMemory("debounce: the winner cancelled")
  },
  {
    id: "memory/deadline-while-held",
    file: flows,
    find: `if (part.run.state !== "Running") this.interpret(`,
    replace: `if (part.run.state === "Scheduled" || part.run.state === "Ready") this.interpret(`,
    breaks: "a flow that waits for its members waits past its deadline",
    noticedBy: onMemory("the deadline passes → the join runs")
  },
  {
    id: "memory/member-of-earlier-flow",
    file: flows,
    find: "if (part === undefined || part.run.generation !== generation) return\n",
    replace: "if (part === undefined) return\n",
    breaks: "a member of a replaced flow counts for the one after it",
    noticedBy: onMemory("a flow is replaced")
  },
  {
    id: "memory/members-of-another-generation-are-waited-for",
    file: docket,
    find: "part?.parent?.key !== of.key || part.parent.generation !== of.generation",
    replace: "part?.parent?.key !== of.key",
    breaks: "a flow that replaced another waits for ever for members of that one",
    noticedBy: onMemory("a flow that replaced another is cancelled")
  },
  {
    id: "memory/late-members-forgotten",
    file: flows,
    find: `if (member._tag !== "Gone") part.gathered?.get(gather)?.add(index, member)`,
    replace: "",
    breaks: "what succeeded after its flow had failed runs again when the flow is redriven",
    noticedBy: onMemory("members that succeed after their flow has failed")
  },
  {
    id: "memory/steps-of-members-untold",
    file: flows,
    find: `{ _tag: "Step", at, step, state }, part.flow)`,
    replace: `{ _tag: "Step", at, step, state })`,
    breaks: "who watches a flow hears nothing of what its members do",
    noticedBy: onMemory("changes of a flow → steps of its members")
  },
  {
    id: "memory/replaced-loses-its-slot",
    file: additions,
    find:
      `if (known.state === "Running" && known.gates?.concurrency !== undefined) this.#runs.leave(known)\n      else this.#runs.take(known)`,
    replace: "this.#runs.take(known)",
    breaks: "the body of a replaced run and its replacement run at once, past the limit",
    noticedBy: onMemory("a running run is replaced")
  },
  {
    id: "memory/slot-not-freed",
    file: gates,
    find: "gate.used--",
    replace: "",
    breaks: "after a run, its value is blocked for ever",
    noticedBy: onMemory("every way out of running frees the slot")
  },
  {
    id: "memory/held-out-of-order",
    file: gates,
    find: "const cameBefore = (a: Run, b: Run): boolean => a.arrival < b.arrival",
    replace: "const cameBefore = (a: Run, b: Run): boolean => a.due < b.due",
    breaks: "runs that wait at a gate overtake each other",
    noticedBy: onMemory("limit 1 per value, five runs with it")
  },
  {
    id: "memory/limit-one-too-many",
    file: gates,
    find: "if (gate.free(limits, now) <= 0) return gate",
    replace: "if (gate.free(limits, now) < 0) return gate",
    breaks: "one run more than the limit",
    noticedBy: onMemory("a changed limit applies to what waits", "whatever happens, in any order")
  },
  {
    id: "memory/cooldown-of-retries",
    file: gates,
    find: "run.attempt + run.lost === 0 && !isDropped",
    replace: "!isDropped",
    breaks: "each retry begins the cooldown anew",
    noticedBy: onMemory("a retry does not begin the cooldown of its run anew")
  },
  {
    id: "memory/window-too-long",
    file: gates,
    find: "return rate.limit - (this.#starts.length - this.#firstAfter(now - rate.window))",
    replace: "return rate.limit - (this.#starts.length - this.#first)",
    breaks: "a window that was shortened still holds what started before it",
    noticedBy: onMemory("a deploy shortens the window")
  },
  {
    id: "memory/member-runs-twice",
    file: flows,
    find: "return gathered?.members.has(index) !== true",
    replace: "return true",
    breaks: "a member whose addition was repeated runs again, although it has ended",
    noticedBy: onMemory("a member that has ended is added again")
  },
  {
    id: "memory/gather-never-met",
    file: part,
    find: "|| failed >= this.waitsFor.failed ||",
    replace: "||",
    breaks: "a fan-out whose first failure decides waits for all the others",
    noticedBy: onMemory("all succeed, one fails for good → the rest is cancelled")
  },
  {
    id: "memory/one-run-wakes-all",
    file: groups,
    find: "count -= taken",
    replace: "",
    breaks: "one new run wakes a hundred workers",
    noticedBy: unit("packages/runtime/test/MemoryStore.test.ts", "wakes as many workers as there is work for")
  }
]
