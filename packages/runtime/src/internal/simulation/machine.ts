/**
 * The machine that a simulation runs on: a clock that moves when nobody can go on, and processes that can be stopped where
 * they stand.
 *
 * It takes the place of a scheduler and a clock, and nothing of it is real: a task runs after the one before it, a timer
 * after the one that ends before it, so the same program takes the same steps every time. `TestClock` would not do: it
 * cannot jump (each sleeper wakes at its own time), cannot stop one process and not the others, and watches real time.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Logger from "effect/Logger"
import * as Random from "effect/Random"
import * as References from "effect/References"
import * as Scheduler from "effect/Scheduler"
import { Heap } from "../memory/heap.ts"
import type { Chance } from "./chance.ts"

/** The simulation cannot go on; the message says why. */
export class Stuck extends Data.TaggedError("Stuck")<{ readonly message: string }> {}

// A program that takes so many steps without letting time pass does not come to rest.
const mostSteps = 200_000

// Turns of the real event loop that something outside of the simulation gets, before it is given up.
const patience = 100

interface Timer {
  readonly at: number
  readonly order: number
  readonly ring: () => void
  heapIndex: number
}

interface Task {
  readonly process: Process | undefined
  readonly run: () => void
}

/** A clock, and processes that follow it. */
export class Machine {
  #now: number
  #order = 0
  #steps = 0
  #tasks: Array<Task> = []
  #next = 0
  /** Called when there is nothing more to do at a time, and the clock is about to move on to the next. */
  onQuiet: (until: number) => void = () => {}
  readonly #timers = new Heap<Timer>((a, b) => a.at < b.at || (a.at === b.at && a.order < b.order))

  constructor(now: number) {
    this.#now = now
  }

  get now(): number {
    return this.#now
  }

  /** Calls back at a time, or now if that has passed; the result calls it off. */
  at(time: number, ring: () => void): () => void {
    const timer: Timer = { at: time, order: this.#order++, ring, heapIndex: -1 }
    this.#timers.add(timer)
    return () => {
      if (timer.heapIndex !== -1) this.#timers.remove(timer)
    }
  }

  /** Calls back when what is under way now is done. */
  post(process: Process | undefined, run: () => void): void {
    this.#tasks.push({ process, run })
  }

  /** The clock jumps: everything that was to come meanwhile comes late, in its order. */
  jump(millis: number): void {
    this.#now += millis
  }

  /** Takes one step after the other until the condition holds. */
  run(isDone: () => boolean): Effect.Effect<void, Stuck> {
    const turn = (waited: number): Effect.Effect<void, Stuck> =>
      Effect.suspend(() => {
        const problem = this.#settle(isDone)
        if (problem !== undefined) return Effect.fail(new Stuck({ message: problem }))
        if (isDone()) return Effect.void
        const timer = this.#timers.first
        if (timer === undefined) {
          return waited < patience
            ? Effect.andThen(Effect.yieldNow, turn(waited + 1))
            : Effect.fail(
              new Stuck({ message: "everybody waits, and no clock moves them: for something outside of it?" })
            )
        }
        this.#timers.remove(timer)
        if (timer.at > this.#now) {
          this.onQuiet(timer.at)
          this.#now = timer.at
          this.#steps = 0
        }
        timer.ring()
        // promises of bodies get their turn before time goes on
        return Effect.andThen(Effect.yieldNow, turn(0))
      })
    return turn(0)
  }

  /** Runs tasks until there are none; what is wrong, if they do not end. */
  #settle(isDone: () => boolean): string | undefined {
    while (this.#next < this.#tasks.length && !isDone()) {
      const { process, run } = this.#tasks[this.#next++]!
      if (process === undefined) run()
      else process.do(run)
      if (++this.#steps > mostSteps) return `more than ${mostSteps} steps at one instant: it does not come to rest`
    }
    this.#tasks = this.#tasks.slice(this.#next)
    this.#next = 0
    return undefined
  }
}

/** Something that runs on a machine, and may be stopped for a while or for ever. */
export class Process {
  readonly name: string
  readonly context: Context.Context<never>
  readonly #machine: Machine
  /** How far its clock is ahead of that of the machine. */
  #skew: number
  #state: "Running" | "Frozen" | "Dead" = "Running"
  #held: Array<() => void> = []

  constructor(
    machine: Machine,
    options: {
      readonly name: string
      readonly skew: number
      readonly chance: Chance
      readonly logger: Logger.Logger<unknown, void>
    }
  ) {
    this.#machine = machine
    this.name = options.name
    this.#skew = options.skew
    const scheduler = new Scheduler.MixedScheduler("async", (run) => {
      let isOff = false
      this.post(() => {
        if (!isOff) run()
      })
      return () => {
        isOff = true
      }
    })
    this.context = Context.empty().pipe(
      Context.add(Scheduler.Scheduler, scheduler),
      Context.add(Clock.Clock, this.#clock()),
      Context.add(Random.Random, options.chance),
      Context.add(References.CurrentLoggers, new Set([options.logger])),
      Context.add(References.MinimumLogLevel, "Warn")
    ) as Context.Context<never> // references are always there
  }

  get state(): "Running" | "Frozen" | "Dead" {
    return this.#state
  }

  /** Everything that reaches it from outside comes through here. */
  post(run: () => void): void {
    this.#machine.post(this, run)
  }

  /** Does something now, later if it is frozen, never if it is dead. */
  do(run: () => void): void {
    if (this.#state === "Running") run()
    else if (this.#state === "Frozen") this.#held.push(run)
  }

  freeze(): void {
    if (this.#state === "Running") this.#state = "Frozen"
  }

  thaw(): void {
    if (this.#state !== "Frozen") return
    this.#state = "Running"
    for (const run of this.#held) this.post(run)
    this.#held = []
  }

  /** Somebody sets its clock, forward or back. What it sleeps for stays as long. */
  set(skew: number): void {
    this.#skew = skew
  }

  /** It ends here: no finalizer of it runs. */
  kill(): void {
    this.#state = "Dead"
    this.#held = []
  }

  #clock(): Clock.Clock {
    const millis = () => this.#machine.now + this.#skew
    const nanosOf = (millis: number) => BigInt(Math.floor(millis)) * 1_000_000n
    const nanos = () => nanosOf(millis())
    // counted from its start, and nobody sets it
    const started = this.#machine.now
    const monotonic = () => nanosOf(this.#machine.now - started)
    return {
      currentTimeMillisUnsafe: millis,
      currentTimeMillis: Effect.sync(millis),
      currentTimeNanosUnsafe: nanos,
      currentTimeNanos: Effect.sync(nanos),
      monotonicTimeNanosUnsafe: monotonic,
      monotonicTimeNanos: Effect.sync(monotonic),
      sleep: (duration) => {
        // a clock shows whole milliseconds, and nobody wakes early
        const length = Math.ceil(Duration.toMillis(duration))
        if (length <= 0) return Effect.void
        return Effect.callback((resume) => {
          if (length === Infinity) return
          const off = this.#machine.at(this.#machine.now + length, () => this.post(() => resume(Effect.void)))
          return Effect.sync(off)
        })
      }
    }
  }
}
