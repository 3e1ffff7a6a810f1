/**
 * Starting a worker: options are read and checked once, tasks prepared, automatic tasks seeded.
 */
import type { DocketError, Flow, Task, TaskGroup } from "@effect-docket/dsl"
import * as Interpreter from "@effect-docket/dsl/Interpreter"
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { hostname } from "node:os"
import { DocketEngine } from "../../DocketEngine.ts"
import type { GateLimits } from "../../DocketStore.ts"
import type { Options } from "../../Worker.ts"
import * as flowProgram from "../flow/program.ts"
import { Loop, type Settings, Signal } from "./loop.ts"
import * as perpetuate from "./perpetuate.ts"
import * as program from "./program.ts"

/** The options of a worker, whatever its flows are. */
export type AnyOptions = Options<ReadonlyArray<Flow.AnyNamed>>

const defaultDefectRetryPolicy = Schedule.exponential("1 second").pipe(Schedule.upTo({ times: 3 }))

let workers = 0

const operation = "Worker"

/** The options, checked. Throws a `DocketError`. */
const readOptions = (options: AnyOptions, limits: Settings["limits"]) => {
  const concurrency = Interpreter.integer(operation, "concurrency", options.concurrency ?? 10, 1)
  const lanes = options.lanes ?? ["default"]
  const slots = Array.isArray(lanes) ? undefined : new Map(Object.entries(lanes as Readonly<Record<string, number>>)) // the other member of the union
  const names = slots === undefined ? lanes as ReadonlyArray<string> : Array.from(slots.keys()) // as above
  if (names.length === 0) Interpreter.invalid(operation, "lanes", "has to name a lane")
  for (const lane of names) Interpreter.name(operation, "lanes", lane)
  slots?.forEach((count, lane) => Interpreter.integer(operation, `lanes.${lane}`, count, 1))
  if (options.name !== undefined) Interpreter.name(operation, "name", options.name)
  limits?.forEach((limit, task) => Interpreter.integer(operation, `limits.${task}`, limit, 0))
  const settings: Settings = {
    name: options.name ?? `${hostname()}/${process.pid}/${++workers}`,
    concurrency,
    lanes: slots,
    lease: Interpreter.millis(operation, "lease", options.lease ?? "30 seconds", 1),
    drainTimeout: Interpreter.millis(operation, "drainTimeout", options.drainTimeout ?? "30 seconds"),
    limits
  }
  return { names, settings }
}

/** Starts a worker in a scope: it drains when the scope closes. */
export const start = Effect.fnUntraced(function*(
  group: TaskGroup.Any,
  options: AnyOptions,
  limits?: Settings["limits"]
): Effect.fn.Return<Loop, DocketError.DocketError, DocketEngine | Scope.Scope> {
  const { names, settings } = yield* Effect.try({
    try: () => readOptions(options, limits),
    catch: (error) => error as DocketError.DocketError // thrown by `readOptions`
  })
  const { store } = yield* DocketEngine
  const clock = yield* Clock.Clock
  const context = (yield* Effect.context<never>()) as Context.Context<never>
  const defects = options.defectRetryPolicy ?? defaultDefectRetryPolicy
  const programs = new Map<string, program.Program>()
  const versions = new Map<string, number>()
  const gates = new Map<string, GateLimits>()
  const prepare = (tag: string, task: Task.Any): void => {
    if (programs.has(tag)) return
    const { gates: declared, version } = Interpreter.resolved(task)
    programs.set(tag, program.make(store.name, task, context, defects))
    versions.set(tag, version)
    if (declared !== undefined) {
      const { concurrency, cooldown, rateLimit } = declared
      gates.set(tag, { concurrency: concurrency?.max, rateLimit, cooldown: cooldown?.for })
    }
  }
  for (const [tag, task] of group.tasks) prepare(tag, task)
  const flows = new Map<string, flowProgram.FlowProgram>()
  const interpreted = new Map<string, Set<number>>()
  const graphs = (options.flows ?? []).map(Interpreter.graph.graphOf)
  // it runs the tasks of its flows as well: it has their handlers
  for (const [tag, task] of graphs.flatMap(({ tasks }) => [...tasks])) prepare(tag, group.tasks.get(tag) ?? task)
  for (const flow of options.flows ?? []) {
    const made = flowProgram.make(flow, store, programs)
    const { name, version } = made.graph
    flows.set(flowProgram.idOf({ flow: name, version }), made)
    interpreted.set(name, (interpreted.get(name) ?? new Set()).add(version))
  }
  const signal = new Signal()
  const session = yield* store.attach({
    worker: settings.name,
    tasks: versions,
    flows: interpreted,
    lanes: names,
    lease: settings.lease,
    gates,
    onWake: signal.onWake
  })
  const loop = new Loop(store, session, signal, clock, settings, programs, flows)
  const { now } = yield* session.turn({ settle: [], capacity: 0, lanes: undefined, except: undefined })
  const begun = loop.millis()
  for (const { options: { perpetual }, task } of programs.values()) {
    if (perpetual?.automatic !== true) continue
    const seed = yield* Interpreter.encodeSeed(operation, { docket: store, task }, task, undefined, undefined)
    const add = (now: number) => {
      const due = perpetuate.first(perpetual, seed.task, seed.key, now)
      return due === undefined
        ? Effect.logError(`perpetual task "${task._tag}" has no next time: it is not seeded`)
        : store.add([{ ...seed, due }], { atomic: false })
    }
    const chain = Interpreter.keepSeeded({
      task: task._tag,
      key: seed.key,
      every: Interpreter.seedInterval,
      get: store.get,
      // the first time before the loop has heard of the store's clock
      seed: Effect.suspend(() => add(now + loop.millis() - begun))
    })
    // a finite worker that is asked for so many runs has them, also of a chain that was ended
    yield* limits?.has(task._tag) === true ? add(now) : chain.check
    yield* Effect.forkScoped(chain.keep)
  }
  return loop
})

/** Runs a started worker until it is stopped, or until it is idle. */
export const work = Effect.fnUntraced(function*(
  loop: Loop,
  untilIdle: boolean
): Effect.fn.Return<Fiber.Fiber<void>, never, Scope.Scope> {
  yield* Effect.forkScoped(loop.renew)
  const fiber = yield* Effect.forkScoped(loop.run(untilIdle))
  // registered last, so that it runs first: everything is still there while bodies end
  yield* Effect.addFinalizer(() => loop.stop(fiber))
  return fiber
})
