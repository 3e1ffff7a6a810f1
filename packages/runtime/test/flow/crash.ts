/**
 * A store whose n-th write goes wrong, and workers that die of it: on the machine of the simulation, so that a worker ends
 * where it stands and an hour takes no time. Each request is one atomic write of the store in memory.
 */
import { type Docket, DocketError, type Flow, type TaskGroup } from "@effect-docket/dsl"
import { DocketEngine, DocketStore, MemoryStore } from "@effect-docket/runtime"
import { Cause, Context, Effect, Exit, Fiber, Layer, Logger, Queue, Schedule, Scope, Stream } from "effect"
import { Chance } from "../../src/internal/simulation/chance.ts"
import { Machine, Process } from "../../src/internal/simulation/machine.ts"
import { start, work } from "../../src/internal/worker/start.ts"
import { sizes } from "../../src/MemoryStore.ts"

/** What goes wrong with a write. */
export type Fault =
  /** The worker dies before it, or when it was applied. */
  | "before"
  | "after"
  /** It was applied, and its worker hears that nobody knows. */
  | "lostReply"
  /** It was applied twice; the second answer comes. */
  | "repeat"
  /** Somebody cancels the flow right before it; and its worker dies of it then. */
  | "cancel"
  | "cancelAndDie"

/** Which faults, at which write. */
export type Plan = (write: number) => Fault | undefined

/** What is run. */
export interface Subject {
  readonly group: TaskGroup.Any
  readonly flows: ReadonlyArray<Flow.AnyNamed>
  /** Made once per worker; what has to outlive it lies outside. */
  readonly handlers: Layer.Layer<never>
  readonly client: Layer.Layer<never, never, Docket.Docket>
  /** What is cancelled. */
  readonly key?: string
  /** What workers do after defects and losses: if it is absent, they try again for ever. */
  readonly defectRetryPolicy?: Schedule.Schedule<unknown, unknown>
}

/** How long a claim lasts. */
export const lease = 20_000

const name = "crash"

const unavailable = new DocketError.DocketError({
  operation: "turn",
  reason: new DocketError.StoreUnavailable({ cause: new Error("the reply was lost") })
})

interface Member {
  readonly process: Process
  readonly scope: Scope.Closeable
}

const processOf = (machine: Machine, name: string): Process =>
  new Process(machine, { name, skew: 0, chance: new Chance(1, name), logger: Logger.make(() => {}) })

const engineOf = (store: DocketStore.StoredDocket) =>
  DocketEngine.layer({ name }).pipe(
    Layer.provide(Layer.succeed(DocketStore.DocketStore, { docket: () => Effect.succeed(store) })),
    Layer.orDie
  )

/** A store, and workers that come and go. */
class World {
  readonly machine = new Machine(Date.UTC(2026, 0, 1))
  readonly server = processOf(this.machine, "store")
  store!: DocketStore.StoredDocket
  heard!: Queue.Dequeue<DocketStore.StoredEvent>
  writes = 0
  deaths = 0
  lostReplies = 0
  /** What the events say, and when a cancel was accepted. */
  readonly events: Array<string> = []
  #started = 0
  readonly #plan: Plan
  readonly #subject: Subject

  constructor(plan: Plan, subject: Subject) {
    this.#plan = plan
    this.#subject = subject
  }

  /** Hears of what has happened up to now. */
  catchUp(): void {
    while (true) {
      const taken = Queue.takeUnsafe(this.heard)
      if (taken === undefined || Exit.isFailure(taken)) return
      const { event, key } = taken.value
      if (event._tag === "Step") this.events.push(`${key} ${event.step} ${event.state}`)
      else if (event._tag === "Finished") this.events.push(`${key} Finished`)
    }
  }

  run<A, E>(effect: Effect.Effect<A, E>): Fiber.Fiber<A, E> {
    return Effect.runForkWith(this.server.context)(effect)
  }

  /** Starts a worker, in a process of its own. */
  start(): void {
    const { flows, group, handlers } = this.#subject
    const process = processOf(this.machine, `w${++this.#started}`)
    const member: Member = { process, scope: Scope.makeUnsafe() }
    const program = Effect.gen({ self: this }, function*() {
      const services = yield* Layer.buildWithScope(
        Layer.provideMerge(handlers, engineOf(this.#connect(member))),
        Scope.makeUnsafe()
      )
      const { defectRetryPolicy = Schedule.recurs(10_000) } = this.#subject
      const options = { name: process.name, concurrency: 5, lease, flows, defectRetryPolicy }
      const loop = yield* start(group, options).pipe(Effect.provideContext(services))
      yield* work(loop, false)
    }).pipe(Scope.provide(Scope.makeUnsafe()))
    Effect.runForkWith(process.context)(program).addObserver((exit) => {
      // a worker that does not find the store does not start
      if (Exit.isFailure(exit)) this.#kill(member)
    })
  }

  #kill({ process, scope }: Member): void {
    if (process.state === "Dead") return
    this.deaths++
    process.kill()
    this.run(Scope.close(scope, Exit.void))
    this.machine.at(this.machine.now + 500, () => this.start())
  }

  #call<A>(
    member: Member,
    effect: Effect.Effect<A, DocketError.DocketError>,
    isWrite = true
  ): Effect.Effect<A, DocketError.DocketError> {
    return Effect.callback<A, DocketError.DocketError>((resume) => {
      const fault = isWrite ? this.#plan(++this.writes) : undefined
      const reply = (exit: Exit.Exit<A, DocketError.DocketError>) => member.process.post(() => resume(exit))
      if (fault === "cancel" || fault === "cancelAndDie") {
        this.run(Effect.map(this.store.cancel(this.#subject.key!), (accepted) => { // it has one then
          if (!accepted) return
          this.catchUp()
          this.events.push("accepted")
        }))
      }
      if (fault === "before" || fault === "cancelAndDie") return this.#kill(member)
      this.run(effect).addObserver((exit) => {
        switch (fault) {
          case "after":
            return this.#kill(member)
          case "lostReply":
            this.lostReplies++
            return reply(Exit.fail(unavailable))
          case "repeat":
            this.lostReplies++
            return void this.run(effect).addObserver(reply)
          default:
            return reply(exit)
        }
      })
    })
  }

  #connect(member: Member): DocketStore.StoredDocket {
    const { store } = this
    const read = <A>(effect: Effect.Effect<A, DocketError.DocketError>) => this.#call(member, effect, false)
    return {
      ...store,
      add: (...args) => this.#call(member, store.add(...args)),
      cancel: (key, of) => this.#call(member, store.cancel(key, of)),
      get: (key) => read(store.get(key)),
      outcome: (...args) => read(store.outcome(...args)),
      members: (...args) => read(store.members(...args)),
      attach: (options) =>
        Effect.map(
          read(Scope.provide(
            store.attach({ ...options, onWake: () => member.process.post(options.onWake) }),
            member.scope
          )),
          (session): DocketStore.WorkerSession => ({
            turn: (request) => this.#call(member, session.turn(request)),
            renew: (fences) => this.#call(member, session.renew(fences)),
            outlook: (except) => read(session.outlook(except))
          })
        )
    }
  }

  /** Runs something to its end; a message if that does not come. */
  await<A, E>(fiber: Fiber.Fiber<A, E>): Effect.Effect<Exit.Exit<A, E>, string> {
    return Effect.mapError(this.machine.run(() => fiber.pollUnsafe() !== undefined), ({ message }) => message).pipe(
      Effect.andThen(Fiber.await(fiber))
    )
  }
}

/** What happened. */
export interface Played<A> {
  readonly exit: Exit.Exit<A, unknown>
  /** How many writes there were until it had ended. */
  readonly writes: number
  readonly deaths: number
  readonly lostReplies: number
  /** What the events say of each key: steps that began or ended, and ends. And when a cancel was accepted. */
  readonly events: ReadonlyArray<string>
  /** What is not as it should be in the store. */
  readonly left: ReadonlyArray<string>
}

/** How long after the end of a flow nothing more of it may be pending: longer than any body and a lease. */
const rest = 300_000

/** Plays what a producer does: it is told how everything ended. */
export const play = <A>(
  subject: Subject,
  plan: Plan,
  produce: Effect.Effect<A, unknown, Docket.Docket>
): Effect.Effect<Played<A>, string> =>
  Effect.gen(function*() {
    const world = new World(plan, subject)
    const scope = Scope.makeUnsafe()
    const opened = yield* world.await(world.run(
      Layer.buildWithScope(MemoryStore.layer, scope).pipe(
        Effect.flatMap((services) => Context.get(services, DocketStore.DocketStore).docket({ name, prefix: "docket" })),
        Scope.provide(scope)
      )
    ))
    if (Exit.isFailure(opened)) return yield* Effect.fail(Cause.pretty(opened.cause))
    world.store = opened.value
    const subscribed = yield* world.await(world.run(Scope.provide(world.store.subscribe(undefined), scope)))
    if (Exit.isFailure(subscribed)) return yield* Effect.fail(Cause.pretty(subscribed.cause))
    world.heard = subscribed.value
    for (let n = 0; n < 2; n++) {
      world.start()
    }
    const producer = Layer.provideMerge(subject.client, engineOf(world.store))
    const exit = yield* world.await(world.run(Effect.provide(produce, producer) as Effect.Effect<A, unknown>)) // it has all it needs
    const { deaths, lostReplies, writes } = world
    yield* world.await(world.run(Effect.sleep(rest)))
    const left: Array<string> = []
    const open = yield* world.await(world.run(Stream.runCollect(world.store.snapshot)))
    for (const { key, state, thread } of Exit.isSuccess(open) ? open.value : []) {
      left.push(`${key} is ${state}: ${thread?.state ?? ""}`)
    }
    yield* world.await(world.run(Effect.sleep("15 days")))
    const { held, kept, leased, ready, runs, scheduled, waiters } = sizes(world.store)
    for (const [what, size] of Object.entries({ held, kept, leased, ready, runs, scheduled, waiters })) {
      if (size !== 0) {
        left.push(`${size} ${what}`)
      }
    }
    world.catchUp()
    return { exit, writes, deaths, lostReplies, events: world.events, left }
  })
