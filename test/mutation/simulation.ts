/**
 * Mutations that a simulation has to notice: what goes wrong when time passes, requests are late, and workers come and go.
 */
import { type Mutation, unit } from "./mutation.ts"

const docket = "packages/runtime/src/internal/memory/docket.ts"
const runs = "packages/runtime/src/internal/memory/runs.ts"
const settlements = "packages/runtime/src/internal/memory/settlements.ts"
const flows = "packages/runtime/src/internal/memory/flows.ts"
const gates = "packages/runtime/src/internal/memory/gates.ts"
const groups = "packages/runtime/src/internal/memory/groups.ts"
const perpetuate = "packages/runtime/src/internal/worker/perpetuate.ts"

const simulation = "packages/runtime/test/Simulation.test.ts"
const onTasks = unit(simulation, "reaches everything that it is about: standard")
const onFlows = unit(simulation, "reaches everything that it is about: flows")

/** Mutations that a simulation has to notice. */
export const simulated: ReadonlyArray<Mutation> = [
  {
    id: "simulation/due-timer",
    file: runs,
    find: "this.schedule.add(run)\n    this.arm(due)",
    replace: "this.schedule.add(run)",
    breaks: "what is due waits for the next request of somebody else",
    noticedBy: onTasks
  },
  {
    id: "simulation/lease-timer",
    file: runs,
    find: "this.leases.add(run, session.options.lease, now)\n    this.arm(run.until)",
    replace: "this.leases.add(run, session.options.lease, now)",
    breaks: "what a dead worker held is not taken over in a docket where nothing else happens",
    noticedBy: onTasks
  },
  {
    id: "simulation/deadline-timer",
    file: flows,
    find: "this.#patience.add(part)\n    this.#runs.arm(deadline)",
    replace: "this.#patience.add(part)",
    breaks: "a flow whose deadline has passed waits for the next request of somebody else",
    noticedBy: onFlows
  },
  {
    id: "simulation/window-timer",
    file: docket,
    find: "this.#runs.arm(more ? now : this.#runs.gates.lookAt)",
    replace: "if (more) this.#runs.arm(now)",
    breaks: "what waits for a rate limit goes on waiting when its window is over",
    noticedBy: onFlows
  },
  {
    id: "simulation/ready-wakes-nobody",
    file: runs,
    find: `    this.groups.wake(group, 1)\n`,
    replace: "",
    breaks: "what is ready waits for a worker that comes by",
    noticedBy: onTasks
  },
  {
    id: "simulation/pause-not-asked",
    file: groups,
    find: "this.#pauses.push({ pause, reason })\n",
    replace: "",
    breaks: "a paused task goes on",
    noticedBy: onTasks
  },
  {
    id: "simulation/successor-payload",
    file: settlements,
    find: "    run.payload = successor.payload\n",
    replace: "",
    breaks: "the next run of a perpetual task is given the payload of the one before",
    noticedBy: onTasks
  },
  {
    id: "simulation/failures-not-kept",
    file: settlements,
    find: `if (change._tag === "Retry") run.failures = change.failures\n    else run.attempt--`,
    replace: `if (change._tag !== "Retry") run.attempt--`,
    breaks: "a schedule of retries begins anew with each attempt, and never ends",
    noticedBy: onTasks
  },
  {
    id: "simulation/cancel-forgotten-while-running",
    file: docket,
    find: "      run.cancelling = true\n      this.groups.requestCancel",
    replace: "      this.groups.requestCancel",
    breaks: "a run whose worker died after it was cancelled runs again",
    noticedBy: onTasks
  },
  {
    id: "simulation/debounce-without-end",
    file: gates,
    find: "due: Math.min(now + debounce.for, known.since + (debounce.max ?? Infinity))",
    replace: "due: now + debounce.for",
    breaks: "what is asked for again and again never runs",
    noticedBy: onTasks
  },
  {
    id: "simulation/continue-forgets-cancel",
    file: settlements,
    find: `if (run.cancelling && (change._tag === "HandOver"`,
    replace: `if (run.token === "" && (change._tag === "HandOver"`,
    breaks: "a flow that was cancelled while a step ran goes on with the next one",
    noticedBy: onFlows
  },
  {
    id: "simulation/gather-goes-on-early",
    file: flows,
    find: "|| part.waitsFor?.id !== gather || !part.isGathered) return",
    replace: "|| part.waitsFor?.id !== gather) return",
    breaks: "a fan-in goes on with the first member that has ended",
    noticedBy: onFlows
  },
  {
    id: "simulation/never-on-failed",
    file: perpetuate,
    find: `if (change._tag !== "Completed" && change._tag !== "Failed") return undefined`,
    replace: `if (change._tag !== "Completed") return undefined`,
    breaks: "a perpetual task ends for ever with its first failure",
    noticedBy: onTasks
  },
  {
    id: "simulation/successor-at-now",
    file: perpetuate,
    find: "const due = asked.due ?? (tick === undefined ? undefined : { at: tick.due })",
    replace: "const due = asked.due ?? (tick === undefined ? undefined : { at: now })",
    breaks: "a perpetual task runs again at once, for ever",
    noticedBy: onTasks
  }
]
