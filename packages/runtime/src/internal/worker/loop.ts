/**
 * The loop of a worker: turns of the store, driven by completions and wake-ups, never by a period.
 *
 * A run is in one of three places: in the store, in the buffer (claimed ahead, not begun), or active. The loop is the
 * only one that takes turns; everybody else puts something into its boxes and signals. There is one turn at a time, or two
 * while bodies end faster than the store answers: it works on what one half of them led to while the other half runs.
 *
 * ```
 * Running ── stop ──> Draining ── bodies ended, or the time is up ──> Stopped
 * ```
 *
 * Running claims. Draining claims nothing, gives back what was claimed ahead, renews leases, and lets bodies end. What is
 * left when its time is up is interrupted and released; shutting down is not a failure.
 */
import { DocketError } from "@effect-docket/dsl"
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import type {
  Change,
  Claim,
  ClaimedThread,
  Outlook,
  Renewed,
  Settlement,
  StoredDocket,
  TurnReply,
  WorkerSession
} from "../../DocketStore.ts"
import { type FlowProgram, idOf } from "../flow/program.ts"
import { Ahead } from "./ahead.ts"
import * as pipeline from "./pipeline.ts"
import type { Program } from "./program.ts"
import * as services from "./services.ts"
import { Slot } from "./slot.ts"

/** What a worker was asked to be. Times are in milliseconds. */
export interface Settings {
  readonly name: string
  readonly concurrency: number
  /** Slots per lane, if they are divided. */
  readonly lanes: ReadonlyMap<string, number> | undefined
  readonly lease: number
  readonly drainTimeout: number
  /** Runs of a task after which it is neither claimed nor perpetuated any more. */
  readonly limits: ReadonlyMap<string, number> | undefined
}

/** What a worker has done. */
export interface Counts {
  succeeded: number
  failed: number
  retried: number
}

// Flows that a worker interprets at once, besides the bodies that it runs: each takes a moment, but for those that have to
// read or write a lot.
const mostBetween = 32

// How long a body may go on after it was interrupted, before the run is settled without it. Long enough for finalizers
// that talk to a server; a body that takes longer ignores interruption.
const grace = 5000

// Runs that were claimed ahead wait for a slot; when no body has ended for this long, the guess was wrong, and they are
// given back to workers that are free.
const stale = Duration.millis(20)

// With fewer settlements than that, a second turn beside one that is under way costs more than it saves.
const leastOverlap = 32

// A store that is away is asked again after 50 ms, then twice as long each time, up to five seconds.
const shortestWait = 50
const longestWait = 5000

// The last turn of a worker that stops may not hold its process for ever: leases end by themselves.
const lastTurn = 10_000

/** A settlement on its way to the store. */
interface Sent extends Settlement {
  readonly task: string
}

/** A run that was claimed, and has not begun. */
interface Buffered {
  readonly claim: Claim
  /** The store gave it, or renewed it, at this time of the worker or later: so long at least its lease lasts from here. */
  alive: number
}

/** What wakes the loop. */
export class Signal {
  readonly latch = Latch.makeUnsafe()
  /** There may be something to claim or to hear. */
  dirty = true

  /** Called by the store. */
  readonly onWake = (): void => {
    this.dirty = true
    this.latch.openUnsafe()
  }
}

/** A worker at work. */
export class Loop implements pipeline.Env {
  readonly store: StoredDocket
  readonly clock: Clock.Clock
  readonly counts: Counts = { succeeded: 0, failed: 0, retried: 0 }
  readonly #settings: Settings
  readonly #programs: ReadonlyMap<string, Program>
  readonly #flows: ReadonlyMap<string, FlowProgram>
  readonly #session: WorkerSession
  readonly #active = new Map<string, Slot>()
  readonly #ahead = new Ahead()
  readonly #signal: Signal
  /** Open while there may be leases to renew. */
  readonly #holds = Latch.makeUnsafe()
  readonly #finished = new Map<string, number>()
  readonly #warned = new Set<string>()
  #buffer: Array<Buffered> = []
  #outbox: Array<Sent> = []
  /** Turns under way, and how many runs they ask for. */
  readonly #turns = new Set<Fiber.Fiber<void>>()
  #asked = 0
  /** How many of the active runs are flows between two steps, which take no slot. */
  #between = 0
  /** The store answers at once. */
  #immediate = false
  #fork: (<A>(effect: Effect.Effect<A>) => Fiber.Fiber<A>) | undefined = undefined
  #stopping = false
  #starting = false
  /** The last claim was as large as it could be. */
  #more = false
  #offset = 0
  /** How many turns have failed since one succeeded. */
  #away = 0
  /** The last renewal failed. */
  #unrenewed = false
  /** It has said that the store is away, and not that it is back. */
  #saidAway = false
  /** How many bodies have ended since the last look at it, how long there were any, and since when there are. */
  #ended = 0
  #busy = 0
  #busySince = 0
  #steps = 0

  constructor(
    store: StoredDocket,
    session: WorkerSession,
    signal: Signal,
    clock: Clock.Clock,
    settings: Settings,
    programs: ReadonlyMap<string, Program>,
    flows: ReadonlyMap<string, FlowProgram>
  ) {
    this.store = store
    this.#session = session
    this.#signal = signal
    this.clock = clock
    this.#settings = settings
    this.#programs = programs
    this.#flows = flows
  }

  /** How many bodies run. */
  get active(): number {
    return this.#active.size
  }

  get #bodies(): number {
    return this.#active.size - this.#between
  }

  /** Grows with everything that happens. */
  get progress(): number {
    return this.#steps
  }

  /** What is left to do for this worker. */
  get outlook(): Effect.Effect<Outlook, DocketError.DocketError> {
    return Effect.suspend(() => Effect.catchDefect(this.#session.outlook(this.#except()), asUnavailable))
  }

  // -------------------------------------------------------------------------------------------------------------------
  // what the pipeline needs
  // -------------------------------------------------------------------------------------------------------------------

  // not that of the day: a machine's clock may be set while a body runs
  readonly millis = (): number => Number(this.clock.monotonicTimeNanosUnsafe() / 1_000_000n)

  readonly storeNow = (): number => this.millis() + this.#offset

  /** A run that ends now is the last one of its task if that makes the limit full. */
  readonly mayFollow = (task: string): boolean => {
    const limit = this.#settings.limits?.get(task)
    return limit === undefined || (this.#finished.get(task) ?? 0) + 1 < limit
  }

  readonly flowOf = (thread: ClaimedThread): FlowProgram | undefined => this.#flows.get(idOf(thread))

  readonly finish = (slot: Slot, settlement: Settlement | undefined, ended?: Change): void => {
    slot.done = true
    this.#steps++
    slot.timer?.interruptUnsafe()
    this.#active.delete(slot.claim.token)
    if (slot.claim.thread?.between === true) this.#between--
    else {
      this.#ended++
      if (this.#bodies === 0) this.#busy += this.#nanos() - this.#busySince
    }
    if (settlement === undefined) {
      slot.program.metrics("lost", 1)
      // the store does not know that the slot is free
      this.#signal.dirty = true
    } else {
      this.#outbox.push({ ...settlement, task: slot.claim.task })
      if (slot.claim.thread?.between !== true) this.#count(slot.claim.task, ended ?? settlement.change)
    }
    // what was claimed ahead does not wait for a turn that is under way
    this.#start()
    this.#signal.latch.openUnsafe()
  }

  #count(task: string, change: Change): void {
    if (change._tag === "Completed") this.counts.succeeded++
    else if (change._tag === "Failed") this.counts.failed++
    else if (change._tag === "Retry") this.counts.retried++
    if (change._tag === "Completed" || change._tag === "Failed") {
      this.#finished.set(task, (this.#finished.get(task) ?? 0) + 1)
    }
  }

  // -------------------------------------------------------------------------------------------------------------------
  // the loop
  // -------------------------------------------------------------------------------------------------------------------

  /** Takes turns until it is stopped, or, where that is asked for, until nothing is left to do. */
  run(untilIdle: boolean): Effect.Effect<void> {
    const next: Effect.Effect<void> = Effect.suspend(() => {
      this.#signal.latch.closeUnsafe()
      if (this.#stopping && this.#drained) return Effect.void
      if (this.#wantsTurn && this.#mayTurn) {
        if (this.#immediate) return Effect.andThen(this.#turn, next)
        this.#launch()
        return next
      }
      if (this.#stopping) return Effect.andThen(this.#signal.latch.await, next)
      if (this.#active.size > 0 || this.#turns.size > 0 || !untilIdle) return Effect.andThen(this.#wait, next)
      return Effect.flatMap(this.#isIdle, (idle) => idle ? Effect.void : Effect.andThen(this.#wait, next))
    })
    return Effect.flatMap(Effect.context<never>(), (context) => {
      this.#fork = Effect.runForkWith(context)
      return Effect.onExit(next, () => Fiber.interruptAll(this.#turns))
    })
  }

  /** Whether there is something to tell the store, or to hear from it. A turn without settlements still hears of cancels. */
  get #wantsTurn(): boolean {
    return this.#outbox.length > 0 || this.#signal.dirty || (!this.#stopping && this.#more && this.#capacity() > 0)
  }

  /** Whether a turn may be taken now. */
  get #mayTurn(): boolean {
    return this.#turns.size === 0 || this.#mayOverlap
  }

  /** A turn goes when half of what the worker may hold has ended: the store works on it while the other half runs. */
  get #mayOverlap(): boolean {
    const { concurrency } = this.#settings
    return this.#turns.size <= 1 && this.#away === 0 && !this.#immediate && !this.#isDivided && !this.#stopping &&
      this.#outbox.length >= Math.max(leastOverlap, (concurrency + this.#ahead.count) / 2)
  }

  /** Whether slots belong to lanes, or tasks have limits: then every claim depends on the one before. */
  get #isDivided(): boolean {
    return this.#settings.lanes !== undefined || this.#settings.limits !== undefined
  }

  /** Takes a turn beside whatever else happens. */
  #launch(): void {
    const fiber = this.#fork!(this.#turn)
    // a store that answers at once has nothing to overlap
    this.#immediate = fiber.pollUnsafe() !== undefined
    if (this.#immediate) return
    this.#turns.add(fiber)
    fiber.addObserver(() => {
      this.#turns.delete(fiber)
      this.#signal.latch.openUnsafe()
    })
  }

  /** Whether nothing is left that this worker could do or has to wait for. */
  get #isIdle(): Effect.Effect<boolean> {
    return Effect.matchEffect(this.outlook, {
      onSuccess: ({ pending, running }) => Effect.succeed(pending + running === 0),
      onFailure: (error) => Effect.as(this.#stayAway(error, []), false)
    })
  }

  get #drained(): boolean {
    return this.#active.size === 0 && this.#outbox.length === 0 && this.#turns.size === 0
  }

  get #wait(): Effect.Effect<void> {
    return this.#buffer.length === 0
      ? this.#signal.latch.await
      : Effect.asVoid(Effect.timeoutOrElse(this.#signal.latch.await, {
        duration: stale,
        orElse: () =>
          Effect.sync(() => {
            // or the turn that gives them back would claim them again
            this.#ahead.forget()
            this.#releaseBuffer()
          })
      }))
  }

  get #turn(): Effect.Effect<void> {
    return Effect.suspend(() => {
      const settle = this.#outbox
      const begun = this.#nanos()
      this.#observe(begun)
      const capacity = this.#stopping ? 0 : this.#capacity()
      this.#asked += capacity
      this.#signal.dirty = false
      this.#outbox = []
      const turn = this.#session.turn({
        settle,
        capacity,
        lanes: this.#lanes(),
        between: this.#stopping || this.#flows.size === 0 ? 0 : Math.max(0, mostBetween - this.#between),
        except: this.#except()
      })
      return Effect.matchEffect(Effect.catchDefect(turn, asUnavailable), {
        onSuccess: (reply) => {
          this.#asked -= capacity
          const ended = this.#nanos()
          this.#ahead.observeTurn(ended - begun)
          this.#observe(ended)
          return this.#take(reply, settle, capacity, begun / 1_000_000)
        },
        onFailure: (error) => {
          this.#asked -= capacity
          return this.#stayAway(error, settle)
        }
      })
    })
  }

  /** How many bodies end in the time that any run. */
  #observe(now: number): void {
    if (this.#ended === 0) return
    if (this.#bodies > 0) {
      this.#busy += now - this.#busySince
      this.#busySince = now
    }
    this.#ahead.observeRuns(this.#busy, this.#ended)
    this.#ended = 0
    this.#busy = 0
  }

  #capacity(): number {
    const ahead = this.#isDivided ? 0 : this.#ahead.count
    return Math.max(0, this.#settings.concurrency + ahead - this.#bodies - this.#buffer.length - this.#asked)
  }

  #lanes(): ReadonlyMap<string, number> | undefined {
    if (this.#settings.lanes === undefined) return undefined
    const room = new Map(this.#settings.lanes)
    for (const { claim, program: { options: { lane } } } of this.#active.values()) {
      // what is between two steps takes no slot of a lane
      if (claim.thread?.between !== true) room.set(lane, (room.get(lane) ?? 0) - 1)
    }
    return room
  }

  /** Tasks whose limit is full, with the runs that are under way. */
  #except(): ReadonlySet<string> | undefined {
    if (this.#settings.limits === undefined) return undefined
    const except = new Set<string>()
    for (const [task, limit] of this.#settings.limits) {
      if (this.#left(task, limit) <= 0) except.add(task)
    }
    return except
  }

  #left(task: string, limit: number): number {
    let under = 0
    for (const slot of this.#active.values()) {
      if (slot.claim.task === task) under++
    }
    return limit - under - (this.#finished.get(task) ?? 0)
  }

  /** `asked`: when, by the time of the worker. */
  #take(reply: TurnReply, settle: ReadonlyArray<Sent>, capacity: number, asked: number): Effect.Effect<void> {
    this.#steps++
    this.#offset = reply.now - this.millis()
    let between = 0
    for (const claim of reply.claimed) {
      if (claim.thread?.between === true) between++
      else this.#buffer.push({ claim, alive: asked })
    }
    this.#more = capacity > 0 && reply.claimed.length - between >= capacity
    const messages: Array<Effect.Effect<void>> = []
    this.#away = 0
    if (this.#saidAway) messages.push(this.#sayBack)
    for (let i = 0; i < settle.length; i++) {
      if (reply.settled[i] === "Lost") messages.push(this.#reportLost(settle[i]!))
    }
    for (const token of reply.cancelled) this.#cancel(token)
    for (const { count, lane, task, version } of reply.unserved) {
      const id = `${task}/${version}/${lane}`
      if (this.#warned.has(id)) continue
      this.#warned.add(id)
      const what = lane === ""
        ? `flow "${task}" (version ${version})`
        : `task "${task}" (version ${version}, lane "${lane}")`
      const missing = lane === "" ? "can interpret them" : "has a handler for them"
      messages.push(Effect.logWarning(`${count} due runs of ${what} are held: no worker ${missing}`))
    }
    if (reply.claimed.length > 0) this.#holds.openUnsafe()
    if (this.#stopping) this.#releaseBuffer()
    if (between > 0) {
      for (const claim of reply.claimed) {
        if (claim.thread?.between === true) this.#begin({ claim, alive: asked })
      }
      // there may be more of them
      this.#signal.dirty = true
    }
    this.#start()
    return messages.length === 0 ? Effect.void : Effect.all(messages, { discard: true })
  }

  #reportLost({ generation, key, task }: Sent): Effect.Effect<void> {
    this.#programs.get(task)?.metrics("lost", 1)
    return Effect.annotateLogs(
      Effect.logWarning("a settlement came too late: the run was replaced, or its lease had run out"),
      { task, key, generation }
    )
  }

  /** Once per outage, whoever notices first: turns and renewals fail together. */
  #sayAway(what: string): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.#saidAway) return Effect.void
      this.#saidAway = true
      return Effect.logWarning(`worker ${this.#settings.name}: ${what}; trying again`)
    })
  }

  /** Once turns and renewals succeed again. */
  get #sayBack(): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (!this.#saidAway || this.#away > 0 || this.#unrenewed) return Effect.void
      this.#saidAway = false
      return Effect.logInfo(`worker ${this.#settings.name}: the store is back`)
    })
  }

  /** Says that the store is away, and waits longer each time, with chance in it so that workers spread. */
  #stayAway(error: DocketError.DocketError, settle: ReadonlyArray<Sent>): Effect.Effect<void> {
    // what was not acknowledged is sent again, before what has come since; applied twice it is a `Duplicate`
    this.#outbox = [...settle, ...this.#outbox]
    this.#signal.dirty = true
    const longest = Math.min(longestWait, shortestWait * 2 ** this.#away)
    const wait = Effect.flatMap(Random.next, (chance) => Effect.sleep(Duration.millis(longest * (0.5 + chance / 2))))
    this.#away++
    return Effect.andThen(this.#sayAway(error.message), wait)
  }

  // -------------------------------------------------------------------------------------------------------------------
  // slots
  // -------------------------------------------------------------------------------------------------------------------

  #start(): void {
    // a body that ends at once comes back here: the loop goes on with the next, and nothing nests
    if (this.#starting) return
    this.#starting = true
    while (this.#bodies < this.#settings.concurrency) {
      const buffered = this.#buffer.shift()
      if (buffered === undefined) break
      const { task } = buffered.claim
      const limit = this.#settings.limits?.get(task)
      if (limit !== undefined && this.#left(task, limit) <= 0) this.#release(buffered.claim)
      else this.#begin(buffered)
      if (this.#mayOverlap) this.#launch()
    }
    this.#starting = false
  }

  #begin({ alive, claim }: Buffered): void {
    const { thread } = claim
    const program = thread?.between === true ? this.#flows.get(idOf(thread))!.program : this.#programs.get(claim.task)!
    const now = this.millis()
    // the process or the store stood still meanwhile: somebody else may have it by now
    if (now - alive >= this.#settings.lease) return this.#release(claim)
    const slot = new Slot(claim, program, now)
    program.metrics("started", 1)
    program.metrics("punctuality", Math.max(0, claim.startedAt - claim.due) / 1000)
    this.#active.set(claim.token, slot)
    if (thread?.between === true) this.#between++
    else if (this.#bodies === 1) this.#busySince = this.#nanos()
    const { timeout } = program.options
    if (timeout !== undefined) {
      slot.limit = timeout
      slot.deadline = now + timeout
    }
    if (thread?.deadline !== undefined && !thread.between) slot.expiry = thread.deadline - this.#offset
    const fork = Effect.runForkWith(services.context(this, slot))
    slot.fiber = fork(pipeline.execute(this, slot))
    if (slot.done) return
    slot.fiber.addObserver((exit) => {
      if (!slot.done) fork(pipeline.collapse(this, slot, exit))
    })
    if (Math.min(slot.deadline, slot.expiry) < Infinity) slot.timer = fork(this.#watch(slot))
  }

  /** Interrupts a body at its deadline, which the body may move. */
  #watch(slot: Slot): Effect.Effect<void> {
    return Effect.suspend(() => {
      const left = Math.min(slot.deadline, slot.expiry) - this.millis()
      if (left > 0) return Effect.andThen(Effect.sleep(Duration.millis(left)), this.#watch(slot))
      slot.stop(slot.expiry < slot.deadline ? "Expired" : "Timeout")
      return Effect.andThen(Effect.sleep(Duration.millis(grace)), pipeline.abandon(this, slot))
    })
  }

  #cancel(token: string): void {
    const slot = this.#active.get(token)
    if (slot !== undefined) return slot.stop("Cancelled")
    const index = this.#buffer.findIndex(({ claim }) => claim.token === token)
    if (index === -1) return
    const { claim } = this.#buffer.splice(index, 1)[0]!
    this.#outbox.push({ ...fenceOf(claim), task: claim.task, change: { _tag: "Cancelled" }, successor: undefined })
  }

  #release(claim: Claim): void {
    this.#outbox.push({ ...fenceOf(claim), task: claim.task, change: { _tag: "Released" }, successor: undefined })
  }

  #nanos(): number {
    return Number(this.clock.monotonicTimeNanosUnsafe())
  }

  #releaseBuffer(): void {
    // the last one first: each goes before all others, so that they end up in their order
    for (const { claim } of this.#buffer.toReversed()) this.#release(claim)
    this.#buffer = []
    this.#signal.latch.openUnsafe()
  }

  // -------------------------------------------------------------------------------------------------------------------
  // leases
  // -------------------------------------------------------------------------------------------------------------------

  /** Renews what it holds, three times per lease; a renewal that fails is tried again soon. It sleeps while nothing is held. */
  get renew(): Effect.Effect<never> {
    const { lease } = this.#settings
    const once = Effect.suspend(() => {
      const asked = this.millis()
      const claims = this.#buffer.map(({ claim }) => claim)
      // one that was replaced, too: its body keeps the slot that a gate gave it
      for (const slot of this.#active.values()) claims.push(slot.claim)
      if (claims.length === 0) {
        this.#holds.closeUnsafe()
        this.#unrenewed = false
        return this.#sayBack
      }
      return Effect.flatMap(Effect.catchDefect(this.#session.renew(claims.map(fenceOf)), asUnavailable), (answers) => {
        for (const [index, answer] of answers.entries()) this.#hear(claims[index]!, answer, asked)
        this.#signal.latch.openUnsafe()
        this.#unrenewed = false
        return this.#sayBack
      })
    })
    return Effect.andThen(this.#holds.await, Effect.sleep(Duration.millis(lease / 3))).pipe(
      Effect.andThen(once.pipe(
        Effect.tapError((error) => {
          this.#unrenewed = true
          return this.#sayAway(`leases could not be renewed: ${error.message}`)
        }),
        Effect.retry(Schedule.jittered(Schedule.spaced(Duration.millis(lease / 10)))),
        // the schedule has no end
        Effect.orDie
      )),
      Effect.forever
    )
  }

  #hear({ token }: Claim, answer: Renewed, asked: number): void {
    if (answer === "Cancelled") return this.#cancel(token)
    const slot = this.#active.get(token)
    if (answer === "Renewed") {
      const buffered = slot === undefined ? this.#buffer.find(({ claim }) => claim.token === token) : undefined
      if (buffered !== undefined) buffered.alive = asked
    } else if (slot === undefined) {
      this.#buffer = this.#buffer.filter(({ claim }) => claim.token !== token)
      // the store does not know that there is room again
      this.#signal.dirty = true
    } else if (answer === "Replaced") slot.replaced = true
    else slot.stop("Lost")
  }

  // -------------------------------------------------------------------------------------------------------------------
  // shutdown
  // -------------------------------------------------------------------------------------------------------------------

  /** Claims nothing more, lets bodies end for a while, and releases the rest. `loop` is the fiber of `run`. */
  stop(loop: Fiber.Fiber<void>): Effect.Effect<void> {
    const endsWithin = (millis: number, otherwise: Effect.Effect<void>): Effect.Effect<void> =>
      Effect.asVoid(Fiber.await(loop)).pipe(
        Effect.timeoutOrElse({ duration: Duration.millis(millis), orElse: () => otherwise })
      )
    const giveUp = Effect.suspend(() => {
      loop.interruptUnsafe()
      return Effect.logWarning(
        `worker ${this.#settings.name}: stopped without the store; what it held is taken over when the leases end`
      )
    })
    const abandon = Effect.suspend(() =>
      Effect.forEach(Array.from(this.#active.values()), (slot) => pipeline.abandon(this, slot), { discard: true })
    )
    const interrupt = Effect.sync(() => {
      for (const slot of this.#active.values()) slot.stop("Shutdown")
    })
    return Effect.suspend(() => {
      this.#stopping = true
      this.#releaseBuffer()
      return endsWithin(
        this.#settings.drainTimeout,
        Effect.andThen(interrupt, endsWithin(grace, Effect.andThen(abandon, endsWithin(lastTurn, giveUp))))
      )
    })
  }
}

// a bug of a store must not end its workers: it is said and tried again, like an outage
const asUnavailable = (cause: unknown) =>
  Effect.fail(
    new DocketError.DocketError({ operation: "worker", reason: new DocketError.StoreUnavailable({ cause }) })
  )

const fenceOf = ({ generation, key, token }: Claim) => ({ key, generation, token })
