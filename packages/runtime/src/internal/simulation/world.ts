/**
 * The processes of a simulation: a store in memory, workers that come and go, and a producer.
 */
import { Docket, Execution, type Flow, Perpetual, type TaskGroup } from "@effect-docket/dsl"
import * as Interpreter from "@effect-docket/dsl/Interpreter"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Scope from "effect/Scope"
import * as DocketEngine from "../../DocketEngine.ts"
import { DocketStore, type StoredDocket } from "../../DocketStore.ts"
import * as MemoryStore from "../../MemoryStore.ts"
import { start, work } from "../worker/start.ts"
import { Chance } from "./chance.ts"
import { Ledger } from "./ledger.ts"
import { Machine, Process, type Stuck } from "./machine.ts"
import { type Connection, type Fault, Network } from "./network.ts"
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

const textOf = (part: unknown): string => typeof part === "string" ? part : part instanceof Error ? part.message : ""

/** Everything that a simulation is about. */
export class World {
  readonly machine: Machine
  readonly trace: Trace
  readonly ledger: Ledger
  readonly network: Network
  readonly store: StoredDocket
  /** The docket of the producer. */
  readonly docket: Docket.Docket["Service"]
  readonly workers = new Set<Member>()
  /** What the producer has begun and not ended. */
  readonly open = new Set<string>()
  /** No worker follows those that end. */
  isAlone = false
  readonly #setup: Setup
  readonly #server: Process
  readonly #producer: Context.Context<never>
  readonly #restarts: Chance
  #started = 0
  #asked = 0

  constructor(setup: Setup, { ledger, machine, network, producer, server, store, trace }: Opened) {
    this.machine = machine
    this.trace = trace
    this.ledger = ledger
    this.network = network
    this.store = store
    this.docket = Context.get(producer, Docket.Docket)
    this.#setup = setup
    this.#server = server
    this.#producer = producer as Context.Context<never> // of a producer whose types are erased
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

  /** The producer does something; it is open until it has ended. */
  ask(what: string, effect: Effect.Effect<unknown, unknown>): void {
    const name = `${what} (${++this.#asked})`
    this.open.add(name)
    this.trace.add("p", name)
    Effect.runForkWith(this.#producer)(effect).addObserver((exit) => {
      this.open.delete(name)
      if (Exit.isFailure(exit)) this.trace.add("p", `${name} fails: ${textOf(errorOf(exit))}`)
    })
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
      const layer = Layer.provideMerge(subject.handlers, Layer.provideMerge(subject.client, engineOf(connection.store)))
      const services = this.#watch(yield* Layer.buildWithScope(layer, member.scope), process)
      const options = { name, concurrency, lease, drainTimeout, lanes: this.#lanes(), flows: subject.flows }
      const loop = yield* start(group, options).pipe(Effect.provideContext(services))
      yield* work(loop, false)
    }).pipe(Scope.provide(member.scope))
    Effect.runForkWith(process.context)(program).addObserver((exit) => {
      if (Exit.isSuccess(exit) || member.isStopping) return
      this.trace.add(name, `could not start: ${textOf(errorOf(exit))}`)
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

  /** Handlers that say when they begin and end. */
  #watch<R>(services: Context.Context<R>, process: Process): Context.Context<R> {
    let watched = services
    for (const tag of this.#setup.subject.group.tasks.keys()) {
      const key = Interpreter.handlerKey(tag)
      const { context, handler } = Context.getUnsafe(services, key)
      watched = Context.add(watched, key, {
        context,
        handler: (payload) => this.#body(process, tag, Effect.suspend(() => handler(payload)))
      }) as Context.Context<R> // the same services
    }
    return watched
  }

  #body(process: Process, tag: string, body: Effect.Effect<unknown, unknown>): Effect.Effect<unknown, unknown> {
    return Effect.contextWith((context: Context.Context<never>) => {
      const services = context as Context.Context<Execution.CurrentExecution | Perpetual.Perpetual> // a worker adds them
      const { attempt, key, startedAt } = Context.get(services, Execution.CurrentExecution)
      const claim = this.ledger.begin(process.name, key, attempt, DateTime.toEpochMillis(startedAt))
      this.trace.add(process.name, `runs ${tag} ${key} (${claim?.token}) attempt ${attempt}`)
      const ended = Effect.onExit(body, (exit) =>
        Effect.sync(() => {
          if (claim !== undefined) claim.result = exit._tag
          this.trace.add(process.name, `ends ${tag} ${key} (${claim?.token}): ${outcomeOf(exit)}`)
        }))
      const perpetual = services.mapUnsafe.has(Perpetual.Perpetual.key)
        ? Context.get(services, Perpetual.Perpetual)
        : undefined
      if (perpetual === undefined) return ended
      const cancel = Effect.andThen(
        perpetual.cancel,
        Effect.sync(() => {
          if (claim !== undefined) claim.endsChain = true
        })
      )
      return Effect.provideService(ended, Perpetual.Perpetual, { ...perpetual, cancel })
    })
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
  readonly producer: Context.Context<Docket.Docket>
}

const processOf = (seed: number, machine: Machine, trace: Trace, name: string, skew: number): Process => {
  const logger = Logger.make<unknown, void>(({ logLevel, message }) => {
    const text = (Array.isArray(message) ? message : [message]).map(textOf).join(" ").trim()
    trace.add(name, `${logLevel}: ${text}`)
  })
  return new Process(machine, { name, skew, chance: new Chance(seed, `process ${name}`), logger })
}

const name = "simulation"

/** The docket in a store. */
const engineOf = (store: StoredDocket) =>
  DocketEngine.layer({ name }).pipe(
    Layer.provide(Layer.succeed(DocketStore, { docket: () => Effect.succeed(store) })),
    // its name is not empty
    Layer.orDie
  )

/** An empty docket in a store in memory, and a producer that is connected to it. */
export const open = Effect.fnUntraced(function*(setup: Setup): Effect.fn.Return<World, Stuck> {
  const { latency, rates, seed, subject } = setup
  const machine = new Machine(epoch)
  const trace = new Trace(() => machine.now)
  const perpetual = Array.from(subject.group.tasks.values()).filter((task) =>
    Interpreter.resolved(task).perpetual !== undefined
  )
  const ledger = new Ledger(trace, new Set(perpetual.map(({ _tag }) => _tag)))
  const within = <A>(process: Process, effect: Effect.Effect<A>): Effect.Effect<A, Stuck> =>
    Effect.suspend(() => {
      const fiber = Effect.runForkWith(process.context)(effect)
      return Effect.andThen(machine.run(() => fiber.pollUnsafe() !== undefined), Fiber.join(fiber))
    })
  const server = processOf(seed, machine, trace, "store", 0)
  const scope = Scope.makeUnsafe()
  const stored = Layer.buildWithScope(MemoryStore.layer, scope).pipe(
    Effect.flatMap((services) => Context.get(services, DocketStore).docket({ name, prefix: "docket" })),
    Effect.orDie,
    Scope.provide(scope)
  )
  const store = yield* within(server, stored)
  const events = yield* within(server, Scope.provide(Effect.orDie(store.subscribe(undefined)), scope))
  const chance = new Chance(seed, "network")
  const network = new Network({ machine, server, store, events, ledger, trace, chance, rates, latency })
  const process = processOf(seed, machine, trace, "p", 0)
  const layer = Layer.provideMerge(subject.client, engineOf(network.connect(process).store))
  const services = yield* within(process, Layer.buildWithScope(layer, scope))
  return new World(setup, {
    machine,
    trace,
    ledger,
    network,
    server,
    store,
    producer: Context.merge(process.context, services)
  })
})

const errorOf = (exit: Exit.Exit<unknown, unknown>): unknown =>
  Exit.isFailure(exit) ? exit.cause.reasons.map((reason) => "error" in reason ? reason.error : reason)[0] : undefined

const outcomeOf = (exit: Exit.Exit<unknown, unknown>): string =>
  Exit.isSuccess(exit) ? "Success" : exit.cause.reasons.map(({ _tag }) => _tag).join(" ")
