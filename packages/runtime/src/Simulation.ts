/**
 * Deterministic simulation: workers, producers and a store in one process, on a clock of their own, with everything going
 * wrong that can. One seed decides everything, and the same seed gives the same trace.
 *
 * Give it tasks, and what producers do with them. It adds what goes wrong: requests and replies that are lost, late or
 * sent twice, processes that crash before or after a write, workers that stand still longer than their lease, clocks that
 * are off and jump, operators that cancel, replace, pause, strike and clear. It checks what a docket promises at each
 * request and whenever the clock moves: each accepted run ends once, nothing is early, late or lost, a body is repeated only
 * where a claim was lost, limits hold. In the end it lets everything come to rest, and nothing may be left over.
 *
 * Handlers have to be simulated all through: time and chance from Effect, no files, no network.
 *
 * @since 0.1.0
 */
import type { Agenda, Docket, Flow, Task, TaskGroup } from "@effect-docket/dsl"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type { DocketEngine } from "./DocketEngine.ts"
import * as scenario from "./internal/simulation/scenario.ts"
import type { Subject } from "./internal/simulation/world.ts"
import type * as Worker from "./Worker.ts"

/**
 * Something that goes wrong, or that somebody does.
 *
 * @category models
 * @since 0.1.0
 */
export type Disturbance =
  /** A request does not arrive, or its reply does not, or it is sent twice, or either is up to 15 seconds late. */
  | "lostRequest"
  | "lostReply"
  | "repeat"
  | "late"
  /** A worker or a producer ends in the middle of a request, before it is applied or after. */
  | "crash"
  /** Nobody reaches the store for a while. */
  | "outage"
  /** A worker ends where it stands; or is stopped, and drains; or stands still for a while. */
  | "kill"
  | "stop"
  | "freeze"
  /** The clocks of workers are off, and are set while they work, forward or back; how long something takes they know. */
  | "skew"
  /** All clocks jump forward. */
  | "jump"
  /** Additions are repeated, or replaced, runs cancelled, tasks and lanes paused, tasks or some of their payloads struck, and so on. */
  | "add"
  | "replace"
  | "cancel"
  | "pause"
  | "strike"
  | "clear"
  | "redrive"

/**
 * Every disturbance.
 *
 * @category models
 * @since 0.1.0
 */
export const disturbances: ReadonlyArray<Disturbance> = scenario.disturbances

/**
 * What is simulated.
 *
 * @category models
 * @since 0.1.0
 */
export interface Workload {
  readonly [WorkloadTypeId]: Subject
}

/**
 * Type identifier of `Workload`.
 *
 * @category type IDs
 * @since 0.1.0
 */
export const WorkloadTypeId: WorkloadTypeId = "~@effect-docket/runtime/Simulation/Workload"
/**
 * Type identifier of `Workload`.
 *
 * @category type IDs
 * @since 0.1.0
 */
export type WorkloadTypeId = "~@effect-docket/runtime/Simulation/Workload"

/**
 * Makes a workload of tasks and flows.
 *
 * @category constructors
 * @since 0.1.0
 */
export const workload = <Tasks extends Task.Any, const Flows extends ReadonlyArray<Flow.AnyNamed> = readonly []>(
  options: {
    readonly group: TaskGroup.TaskGroup<Tasks>
    readonly flows?: Flows | undefined
    /** Built anew by each worker, as by each process. What has to outlive them lies outside of it. */
    readonly handlers: Layer.Layer<
      Exclude<Worker.Requirements<Tasks, Flows>, DocketEngine>,
      never,
      Docket.Docket | Agenda.Agenda | Docket.ToEnqueue<Tasks["_tag"]>
    >
    /**
     * One thing that a producer does. It comes up again and again; `Random` decides what is different each time. It may be
     * cut off anywhere, as its process may crash.
     */
    readonly produce: Effect.Effect<unknown, unknown, Docket.Docket | Agenda.Agenda | Docket.ToEnqueue<Tasks["_tag"]>>
    /** Fails if what the handlers did is not what it should be; asked when everything has come to rest. */
    readonly verify?: Effect.Effect<unknown, unknown> | undefined
  }
): Workload => ({
  [WorkloadTypeId]: {
    group: options.group,
    client: options.group.client as unknown as Layer.Layer<never, never, Docket.Docket>, // its permissions are found by key
    flows: options.flows ?? [],
    handlers: options.handlers as unknown as Layer.Layer<never>, // each worker is given what they need
    produce: options.produce as unknown as Effect.Effect<unknown, unknown>, // as above
    verify: options.verify
  }
})

/**
 * How to simulate.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** How many things happen before everything comes to rest. Default 80. */
  readonly steps?: number | undefined
  /** What goes wrong. Default: everything. */
  readonly disturbances?: ReadonlyArray<Disturbance> | undefined
}

/**
 * What happened in a simulation.
 *
 * @category models
 * @since 0.1.0
 */
export interface Report {
  readonly seed: number
  /** Every request, answer, body and disturbance, a line for each, with the milliseconds since the beginning. */
  readonly trace: string
  /** Generations that were accepted. */
  readonly runs: number
  readonly claims: number
  readonly bodies: number
  /** Claims of runs whose claim before was lost. */
  readonly redelivered: number
  /** Requests that something happened to. */
  readonly faults: number
}

/**
 * A promise was not kept. The message names the seed, the fewest steps and disturbances that were found to be enough, and
 * the call that repeats it.
 *
 * @category errors
 * @since 0.1.0
 */
export class SimulationFailed extends Data.TaggedError("SimulationFailed")<{
  readonly message: string
  readonly seed: number
  readonly steps: number
  readonly disturbances: ReadonlyArray<Disturbance>
  readonly violations: ReadonlyArray<string>
  readonly trace: string
}> {}

const subjectOf = (workload: Effect.Effect<Workload>): Effect.Effect<Subject> =>
  Effect.map(workload, (workload) => workload[WorkloadTypeId])

/**
 * Simulates one seed. `workload` is run anew, so that state beside its handlers (what was charged, what was sent) begins
 * empty.
 *
 * @category running
 * @since 0.1.0
 */
export const run = (
  workload: Effect.Effect<Workload>,
  options: Options & { readonly seed: number }
): Effect.Effect<Report, SimulationFailed> => {
  const enabled = new Set<Disturbance>(options.disturbances ?? disturbances)
  const subject = subjectOf(workload)
  const script = { seed: options.seed, steps: options.steps ?? 80, enabled }
  return Effect.flatMap(scenario.play(subject, script), ({ report, violations }) =>
    violations.length === 0
      ? Effect.succeed(report)
      : Effect.flatMap(scenario.shorten(subject, script), ({ report, script: { enabled, steps }, violations }) =>
        Effect.fail(
          new SimulationFailed({
            message: scenario.message(report, steps, enabled, violations),
            seed: options.seed,
            steps,
            disturbances: Array.from(enabled),
            violations,
            trace: report.trace
          })
        )))
}

/**
 * Simulates many seeds, one after the other from `from` (default 1), and adds up what happened; stops at the first that
 * fails.
 *
 * @category running
 * @since 0.1.0
 */
export const check = (
  workload: Effect.Effect<Workload>,
  options: Options & { readonly seeds: number; readonly from?: number | undefined }
): Effect.Effect<Omit<Report, "seed" | "trace">, SimulationFailed> =>
  Effect.gen(function*() {
    const from = options.from ?? 1
    const sums = { runs: 0, claims: 0, bodies: 0, redelivered: 0, faults: 0 }
    for (let seed = from; seed < from + options.seeds; seed++) {
      const report = yield* run(workload, { ...options, seed })
      sums.runs += report.runs
      sums.claims += report.claims
      sums.bodies += report.bodies
      sums.redelivered += report.redelivered
      sums.faults += report.faults
    }
    return sums
  })
