/**
 * What lies between the processes of a simulation and their store: requests and replies that are late, lost, or sent twice,
 * and processes that end in the middle of a write.
 *
 * A client sees what a client of a real server sees: an answer, or `StoreUnavailable`, which says nothing about whether it
 * was applied. What a process sends arrives in its order, as on one connection; a request that it has given up may still
 * arrive.
 */
import { type Docket, DocketError } from "@effect-docket/dsl"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { StoredDocket, StoredEvent, WorkerOptions, WorkerSession } from "../../DocketStore.ts"
import * as additions from "./additions.ts"
import type { Chance } from "./chance.ts"
import * as claims from "./claims.ts"
import * as events from "./events.ts"
import type { Ledger } from "./ledger.ts"
import type { Machine, Process } from "./machine.ts"
import * as settlements from "./settlements.ts"
import * as text from "./text.ts"
import type { Trace } from "./trace.ts"

/** What can go wrong with a request. */
export type Fault = "lostRequest" | "lostReply" | "repeat" | "late" | "crash"

/** Every kind of fault, in the order in which chance is asked about them. */
export const faults: ReadonlyArray<Fault> = ["lostRequest", "lostReply", "repeat", "late", "crash"]

// A client gives up then, as one of Redis does.
const longestWait = 10_000

type Answer<A> = Exit.Exit<A, DocketError.DocketError>

/** What happens to one request. */
interface Plan {
  readonly fault: Fault | undefined
  /** How long it takes there and back. */
  readonly there: number
  readonly back: number
  /** The client hears at once that the connection is lost, or nothing until it gives up. */
  readonly isSilent: boolean
  /** The process ends before its request is applied, or after. */
  readonly isBefore: boolean
}

interface Options {
  readonly machine: Machine
  /** Runs what arrives at the store. */
  readonly server: Process
  readonly store: StoredDocket
  /** What the store tells those who listen. */
  readonly published: Queue.Dequeue<StoredEvent>
  readonly ledger: Ledger
  readonly trace: Trace
  readonly chance: Chance
  /** How often each fault happens to a request. */
  readonly rates: ReadonlyMap<Fault, number>
  /** How long a request takes at most, each way. */
  readonly latency: number
}

const unavailable = (operation: string, cause: string): DocketError.DocketError =>
  new DocketError.DocketError({
    operation,
    reason: new DocketError.StoreUnavailable({ cause: new Error(`simulated: ${cause}`) })
  })

/** The network. */
export class Network {
  readonly options: Options
  /** How many faults there were. */
  readonly faults = new Map<Fault | "outage", number>()
  /** Nothing goes wrong any more. */
  isCalm = false
  /** Until when nobody reaches the store. */
  awayUntil = 0

  constructor(options: Options) {
    this.options = options
  }

  /** Connects a process. `onCrash`: the process is to end. */
  connect(process: Process, onCrash?: () => void): Connection {
    return new Connection(this, process, onCrash)
  }

  count(fault: Fault | "outage"): void {
    this.faults.set(fault, (this.faults.get(fault) ?? 0) + 1)
  }

  plan(): Plan {
    const { chance, latency, rates } = this.options
    // each is asked about each time, so that leaving one out does not change the others
    const asked = faults.map((fault) => chance.nextDoubleUnsafe() < (rates.get(fault) ?? 0) ? fault : undefined)
    const [there, back, delay, silent, before] = Array.from({ length: 5 }, () => chance.nextDoubleUnsafe()) as [
      number,
      number,
      number,
      number,
      number
    ] // as many as were asked for
    const fault = this.isCalm ? undefined : asked.find((fault) => fault !== undefined)
    const isLate = fault === "late"
    return {
      fault,
      there: Math.floor(there * (latency + 1)) + (isLate && before < 0.5 ? Math.floor(delay * 15_000) : 0),
      back: Math.floor(back * (latency + 1)) + (isLate && before >= 0.5 ? Math.floor(delay * 15_000) : 0),
      isSilent: silent < 0.3,
      isBefore: before < 0.5
    }
  }

  /** Events up to now, so that they come in their order. */
  catchUp(): void {
    const { ledger, published } = this.options
    while (true) {
      const taken = Queue.takeUnsafe(published)
      if (taken === undefined || Exit.isFailure(taken)) return events.caughtUp(ledger)
      events.event(ledger, taken.value)
    }
  }
}

/** One process at the store. */
export class Connection {
  readonly store: StoredDocket
  readonly #network: Network
  readonly #process: Process
  readonly #onCrash: (() => void) | undefined
  /** What the store holds for it: it ends with the connection. */
  readonly #scope = Scope.makeUnsafe()
  readonly #waits = new Set<Fiber.Fiber<unknown, unknown>>()
  /** When the last request arrives, and the last reply. */
  #arrival = 0
  #reply = 0

  constructor(network: Network, process: Process, onCrash: (() => void) | undefined) {
    this.#network = network
    this.#process = process
    this.#onCrash = onCrash
    this.store = this.#connected()
  }

  /** The process has ended. */
  close(): void {
    for (const wait of this.#waits) wait.interruptUnsafe()
    this.#fork(Scope.close(this.#scope, Exit.void))
  }

  #fork<A, E>(effect: Effect.Effect<A, E>): Fiber.Fiber<A, E> {
    return Effect.runForkWith(this.#network.options.server.context)(effect)
  }

  /** Applies a request at the store; it answers at once. */
  #apply<A>(
    operation: string,
    effect: Effect.Effect<A, DocketError.DocketError>,
    seen: (answer: A, now: number) => string,
    answer: (exit: Answer<A>) => void
  ): void {
    const { machine, trace } = this.#network.options
    this.#network.catchUp()
    this.#fork(effect).addObserver((exit) => {
      if (Exit.isSuccess(exit)) {
        const line = seen(exit.value, machine.now)
        trace.add(this.#process.name, line === "" ? operation : `${operation} ${line}`)
      } else trace.add(this.#process.name, `${operation} fails`)
      this.#network.catchUp()
      answer(exit)
    })
  }

  /** Sends a request, and waits for the reply. */
  #call<A>(
    operation: string,
    effect: Effect.Effect<A, DocketError.DocketError>,
    seen: (answer: A, now: number) => string = () => ""
  ): Effect.Effect<A, DocketError.DocketError> {
    const process = this.#process
    const { latency, machine, trace } = this.#network.options
    return Effect.callback<A, DocketError.DocketError>((resume) => {
      const plan = this.#network.plan()
      const isAway = !this.#network.isCalm && machine.now < this.#network.awayUntil
      const fault = isAway
        ? "lostRequest"
        : plan.fault === "crash" && this.#onCrash === undefined
        ? undefined
        : plan.fault
      // nothing that it has sent or is to be told is still under way
      const isFree = machine.now >= this.#arrival && machine.now >= this.#reply
      if (fault === undefined && latency === 0 && isFree) {
        return this.#apply(operation, effect, seen, (exit) => process.post(() => resume(exit)))
      }
      if (fault !== undefined) {
        this.#network.count(isAway ? "outage" : fault)
        trace.add(process.name, `${operation}: ${isAway ? "outage" : fault}`)
      }
      const answer = (exit: Answer<A>) => process.post(() => resume(exit))
      const off = machine.at(machine.now + longestWait, () => {
        answer(Exit.fail(unavailable(operation, "no answer within 10 seconds")))
      })
      const reply = (exit: Answer<A>, isLost: boolean) => {
        if (isLost && plan.isSilent) return
        this.#reply = Math.max(this.#reply, machine.now + plan.back)
        machine.at(this.#reply, () => {
          off()
          answer(isLost ? Exit.fail(unavailable(operation, "the connection is lost")) : exit)
        })
      }
      if (fault === "lostRequest") {
        return reply(Exit.fail(unavailable(operation, "the connection is lost")), true)
      }
      this.#arrival = Math.max(this.#arrival, machine.now + plan.there)
      machine.at(this.#arrival, () => {
        if (process.state === "Dead") return
        if (fault === "crash" && plan.isBefore) return this.#onCrash!()
        this.#apply(operation, effect, seen, (exit) => {
          if (fault === "crash") return this.#onCrash!()
          if (fault !== "repeat") return reply(exit, fault === "lostReply")
          // sent again, because the first reply did not come
          this.#apply(`${operation} again`, effect, seen, (second) => reply(second, false))
        })
      })
    })
  }

  /** Waits at the store for as long as it takes, or until the connection breaks. */
  #wait<A>(operation: string, effect: Effect.Effect<A, DocketError.DocketError>) {
    const { machine } = this.#network.options
    return Effect.callback<A, DocketError.DocketError>((resume) => {
      const plan = this.#network.plan()
      const fiber = this.#fork(effect)
      this.#waits.add(fiber)
      fiber.addObserver((exit) => {
        this.#waits.delete(fiber)
        if (!Exit.hasInterrupts(exit)) this.#process.post(() => resume(exit))
      })
      const off = plan.fault === undefined ? () => {} : machine.at(machine.now + plan.there + plan.back, () => {
        fiber.interruptUnsafe()
        this.#process.post(() => resume(Exit.fail(unavailable(operation, "the connection is lost"))))
      })
      return Effect.sync(() => {
        off()
        fiber.interruptUnsafe()
      })
    })
  }

  /** A resource at the store that ends with the scope of its user, or with the connection. */
  #hold<A>(
    effect: Effect.Effect<A, DocketError.DocketError, Scope.Scope>
  ): Effect.Effect<A, DocketError.DocketError, Scope.Scope> {
    return Effect.flatMap(
      Effect.acquireRelease(Scope.fork(this.#scope), (scope, exit) => Scope.close(scope, exit)),
      (scope) => Scope.provide(effect, scope)
    )
  }

  #stream<A>(operation: string, stream: Stream.Stream<A, DocketError.DocketError>) {
    return Stream.unwrap(Effect.map(this.#call(operation, Stream.runCollect(stream)), Stream.fromIterable))
  }

  #connected(): StoredDocket {
    const { ledger, store } = this.#network.options
    const noted = (note: () => void, line: string) => () => {
      note()
      return line
    }
    return {
      ...store,
      add: (added, options) =>
        this.#call("add", store.add(added, options), (answers, now) => {
          additions.added(ledger, added, answers, now)
          return text.added(added, answers, now)
        }),
      refused: (asked) => this.#call("refused", store.refused(asked)),
      cancel: (key, of) =>
        this.#call("cancel", store.cancel(key, of), (answer) => {
          additions.cancelled(ledger, key, of, answer)
          return `${key}: ${answer}`
        }),
      get: (key) => this.#call("get", store.get(key), () => key),
      outcome: (key, generation) => this.#call("outcome", store.outcome(key, generation), () => key),
      members: (...which) => this.#call("members", store.members(...which)),
      awaitOutcome: (key, generation) =>
        this.#call("await", Effect.void, () => key).pipe(
          Effect.andThen(this.#wait<Docket.EncodedOutcome>("await", store.awaitOutcome(key, generation))),
          Effect.tap((outcome) =>
            Effect.sync(() => {
              this.#network.catchUp()
              events.awaited(ledger, key, generation, outcome)
            })
          )
        ),
      subscribe: (key) => Effect.andThen(this.#call("subscribe", Effect.void), this.#hold(store.subscribe(key))),
      progress: (fence, value) =>
        this.#call("progress", store.progress(fence, value), (answer, now) => {
          claims.progressed(ledger, fence, answer, now)
          return `${fence.key}: ${answer}`
        }),
      explain: (key) => this.#call("explain", store.explain(key), () => key),
      snapshot: this.#stream("snapshot", store.snapshot),
      counts: this.#call("counts", store.counts),
      deadLetters: (task) => this.#stream("deadLetters", store.deadLetters(task)),
      strike: (strike) =>
        this.#call("strike", store.strike(strike), noted(() => ledger.measures.struck(strike), strike.task)),
      restore: (strike) =>
        this.#call("restore", store.restore(strike), noted(() => ledger.measures.restored(strike), strike.task)),
      pause: (pause, reason) =>
        this.#call(
          "pause",
          store.pause(pause, reason),
          noted(() => ledger.measures.paused(pause), pause.task ?? "everything")
        ),
      resume: (pause) =>
        this.#call(
          "resume",
          store.resume(pause),
          noted(() => ledger.measures.resumed(pause), pause.task ?? "everything")
        ),
      clear: this.#call("clear", store.clear, (count) => String(count)),
      attach: (options) => this.#attach(options)
    }
  }

  #attach(options: WorkerOptions): Effect.Effect<WorkerSession, DocketError.DocketError, Scope.Scope> {
    const { ledger, store } = this.#network.options
    const attached = this.#hold(store.attach({
      ...options,
      onWake: () => this.#process.post(options.onWake)
    }))
    return Effect.map(Effect.andThen(this.#call("attach", Effect.void), attached), (session) => ({
      turn: (request) =>
        this.#call("turn", session.turn(request), (reply, now) => {
          settlements.settled(ledger, request, reply, now)
          this.#network.catchUp()
          claims.claimed(ledger, this.#process.name, options, reply, now)
          return text.turn(request, reply)
        }),
      renew: (fences) =>
        this.#call("renew", session.renew(fences), (answers, now) => {
          claims.renewed(ledger, fences, answers, now)
          return text.renewed(fences, answers)
        }),
      outlook: (except) => this.#call("outlook", session.outlook(except))
    }))
  }
}
