/**
 * The processes of a simulation: a store in memory, producers, and workers that come and go.
 */
import type { Docket, Flow, TaskGroup } from "@effect-docket/dsl"
import * as Interpreter from "@effect-docket/dsl/Interpreter"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { DocketStore, type StoredDocket } from "../../DocketStore.ts"
import * as MemoryStore from "../../MemoryStore.ts"
import { start, work } from "../worker/start.ts"
import { watch } from "./bodies.ts"
import { Chance } from "./chance.ts"
import { Ledger } from "./ledger.ts"
import { Machine, type Process, type Stuck } from "./machine.ts"
import { type Connection, type Fault, Network } from "./network.ts"
import { Producers } from "./producers.ts"
import { docketName, engineOf, failureOf, processOf } from "./programs.ts"
import type { View } from "./timers.ts"
import { Trace } from "./trace.ts"

/** What runs in a simulation, its types erased. */
export interface Subject {
  readonly group: TaskGroup.Any
  readonly client: Layer.Layer<never, never, Docket.Docket>
  readonly flows: ReadonlyArray<Flow.AnyNamed>
  readonly handlers: Layer.Layer<never>
  readonly produce: Effect.Effect<unknown, unknown>
  readonly verify: Effect.Effect<unknown, unknown> | undefined
}

/** How its workers are set up, in milliseconds. */
export interface Fleet {
  readonly most: number
  readonly lease: number
  readonly drainTimeout: number
  readonly concurrency: number
  /** How far the clock of a process may be off. */
  readonly skew: number
  /** Each lane has slots of its own. */
  readonly isDivided: boolean
  /** Some workers do not have all handlers. */
  readonly isPartial: boolean
}

interface Setup {
  readonly seed: number
  readonly subject: Subject
  readonly fleet: Fleet
  readonly rates: ReadonlyMap<Fault, number>
  readonly latency: number
}

/** A worker, in a process of its own. */
export interface Member {
  readonly process: Process
  readonly connection: Connection
  readonly scope: Scope.Closeable
  isStopping: boolean
}

// Some day, so that there is a past.
const epoch = Date.UTC(2026, 0, 1)

/** Everything that a simulation is about. */
export class World {
  readonly machine: Machine
  readonly trace: Trace
  readonly ledger: Ledger
  readonly network: Network
  readonly store: StoredDocket
  readonly producers: Producers
  readonly workers = new Set<Member>()
  /** No worker follows those that end. */
  isAlone = false
  readonly #setup: Setup
  readonly #server: Process
  readonly #restarts: Chance
  #started = 0

  constructor(setup: Setup, { ledger, machine, network, producers, server, store, trace }: Opened) {
    this.machine = machine
    this.trace = trace
    this.ledger = ledger
    this.network = network
    this.store = store
    this.producers = producers
    this.#setup = setup
    this.#server = server
    this.#restarts = new Chance(setup.seed, "restarts")
  }

  get seed(): number {
    return this.#setup.seed
  }

  get subject(): Subject {
    return this.#setup.subject
  }

  get most(): number {
    return this.#setup.fleet.most
  }

  /** Runs what directs the simulation: it reaches the store itself, where nothing goes wrong. */
  direct<A, E>(effect: Effect.Effect<A, E>): Fiber.Fiber<A, E> {
    return Effect.runForkWith(this.#server.context)(effect)
  }

  // -------------------------------------------------------------------------------------------------------------------
  // workers
  // -------------------------------------------------------------------------------------------------------------------

  /** Starts a worker. One that is complete has all handlers. */
  start(isComplete = false): void {
    const { fleet, subject } = this.#setup
    const group = isComplete || !fleet.isPartial ? subject.group : this.#part(subject.group)
    const name = `w${++this.#started}`
    const skew = Math.floor((this.#restarts.nextDoubleUnsafe() * 2 - 1) * fleet.skew)
    const process = processOf(this.#setup.seed, this.machine, this.trace, name, skew)
    const connection: Connection = this.network.connect(process, () => this.kill(member, "crashes"))
    const member: Member = { process, connection, scope: Scope.makeUnsafe(), isStopping: false }
    this.workers.add(member)
    this.trace.add(name, "starts")
    const { concurrency, drainTimeout, lease } = fleet
    const program = Effect.gen({ self: this }, function*() {
      const layer = Layer.provideMerge(subject.handlers, engineOf(subject.client, connection.store))
      const built = yield* Layer.buildWithScope(layer, member.scope)
      const lanes = this.#lanes()
      const services = watch({
        ledger: this.ledger,
        trace: this.trace,
        tasks: subject.group.tasks,
        worker: name,
        concurrency,
        lanes: "length" in lanes ? {} : lanes,
        isStopping: () => member.isStopping
      }, built)
      const options = { name, concurrency, lease, drainTimeout, lanes, flows: subject.flows }
      const loop = yield* start(group, options).pipe(Effect.provideContext(services))
      yield* work(loop, false)
    }).pipe(Scope.provide(member.scope))
    Effect.runForkWith(process.context)(program).addObserver((exit) => {
      if (Exit.isSuccess(exit) || member.isStopping) return
      this.trace.add(name, `could not start: ${failureOf(exit)}`)
      this.stop(member)
    })
  }

  /** Stops a worker as a signal does: it drains. */
  stop(member: Member): void {
    if (member.isStopping) return
    member.isStopping = true
    const { name } = member.process
    this.trace.add(name, "is to stop")
    Effect.runForkWith(member.process.context)(Scope.close(member.scope, Exit.void)).addObserver(() => {
      this.#end(member, "has stopped")
    })
  }

  /** Ends a worker where it stands. */
  kill(member: Member, how: string): void {
    if (this.workers.has(member)) this.#end(member, how)
  }

  #end(member: Member, how: string): void {
    this.workers.delete(member)
    this.trace.add(member.process.name, how)
    member.process.kill()
    member.connection.close()
    // whoever looks after workers starts another one
    const wait = this.#restarts.pick([0, 500, 5000, 30_000])
    this.machine.at(this.machine.now + (this.network.isCalm ? 0 : wait), () => {
      if (!this.isAlone && this.workers.size < this.most) this.start()
    })
  }

  /** Most of the tasks of a group. */
  #part({ tasks }: TaskGroup.Any): TaskGroup.Any {
    const some = Array.from(tasks).filter(() => this.#restarts.happens(0.8))
    return { ...this.#setup.subject.group, tasks: new Map(some) }
  }

  /** The lanes of all tasks. */
  #lanes(): ReadonlyArray<string> | Readonly<Record<string, number>> {
    const { fleet: { isDivided }, subject: { group } } = this.#setup
    const lanes = new Set(["default"])
    for (const task of group.tasks.values()) lanes.add(Interpreter.resolved(task).lane)
    return isDivided
      ? Object.fromEntries(Array.from(lanes, (lane) => [lane, this.#restarts.pick([1, 2])]))
      : Array.from(lanes)
  }
}

/** What a world is made of. */
interface Opened {
  readonly machine: Machine
  readonly trace: Trace
  readonly ledger: Ledger
  readonly network: Network
  readonly server: Process
  readonly store: StoredDocket
  readonly producers: Producers
}

/** How long after a run its successor is due at the earliest, by task. */
const perpetualOf = ({ tasks }: TaskGroup.Any): ReadonlyMap<string, number> =>
  new Map(
    Array.from(tasks.values()).flatMap((task) => {
      const { perpetual } = Interpreter.resolved(task)
      if (perpetual === undefined) return []
      const { jitter, next } = perpetual
      return [[task._tag, next._tag === "Every" ? next.millis - jitter : 1]]
    })
  )

/** An empty docket in a store in memory, and those who add to it. */
export const open = Effect.fnUntraced(function*(setup: Setup): Effect.fn.Return<World, Stuck> {
  const { latency, rates, seed, subject } = setup
  const machine = new Machine(epoch)
  const trace = new Trace(() => machine.now)
  const ledger = new Ledger(trace, perpetualOf(subject.group))
  const server = processOf(seed, machine, trace, "store", 0)
  const scope = Scope.makeUnsafe()
  const within = <A>(effect: Effect.Effect<A, never, Scope.Scope>): Effect.Effect<A, Stuck> =>
    Effect.suspend(() => {
      const fiber = Effect.runForkWith(server.context)(Scope.provide(effect, scope))
      return Effect.andThen(machine.run(() => fiber.pollUnsafe() !== undefined), Fiber.join(fiber))
    })
  const store = yield* within(
    Layer.buildWithScope(MemoryStore.layer, scope).pipe(
      Effect.flatMap((services) => Context.get(services, DocketStore).docket({ name: docketName, prefix: "docket" })),
      Effect.orDie
    )
  )
  const published = yield* within(Effect.orDie(store.subscribe(undefined)))
  const chance = new Chance(seed, "network")
  const network = new Network({ machine, server, store, published, ledger, trace, chance, rates, latency })
  const producers = new Producers({ seed, machine, trace, network, client: subject.client })
  // it is in memory, and answers at once
  const run = Effect.runSyncWith(server.context)
  const view: View = {
    get: (key) => run(Effect.orDie(store.get(key))),
    explain: (key) => run(Effect.orDie(store.explain(key)))
  }
  machine.onQuiet = (until) => {
    network.catchUp()
    for (const text of ledger.timers.check(machine.now, until, view)) ledger.violation(text)
  }
  return new World(setup, { machine, trace, ledger, network, server, store, producers })
})
