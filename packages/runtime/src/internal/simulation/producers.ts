/**
 * The programs outside of the workers: they add, wait, and do what operators do. One that crashes is started again, and
 * what it was about is not taken up.
 */
import { Docket } from "@effect-docket/dsl"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { Chance } from "./chance.ts"
import type { Machine, Process } from "./machine.ts"
import type { Connection, Network } from "./network.ts"
import { engineOf, failureOf, processOf } from "./programs.ts"
import type { Trace } from "./trace.ts"

// Two are enough for what one of them adds to be replaced, joined or cancelled by another.
const count = 2

interface Producer {
  readonly process: Process
  readonly connection: Connection
  readonly services: Context.Context<Docket.Docket>
}

interface Options {
  readonly seed: number
  readonly machine: Machine
  readonly trace: Trace
  readonly network: Network
  /** What a group asks for to be added to. */
  readonly client: Layer.Layer<never, never, Docket.Docket>
}

/** All producers. */
export class Producers {
  readonly #options: Options
  readonly #producers: Array<Producer>
  readonly #chance: Chance
  /** What they have begun and not ended, and who. */
  readonly #open = new Map<string, Producer>()
  #started = 0
  #asked = 0

  constructor(options: Options) {
    this.#options = options
    this.#chance = new Chance(options.seed, "producers")
    this.#producers = Array.from({ length: count }, (_, index) => this.#start(index))
  }

  /** What has begun and not ended. */
  get open(): ReadonlyArray<string> {
    return Array.from(this.#open.keys())
  }

  /** One of them does something; it is open until it has ended. */
  ask(what: string, effect: (docket: Docket.Docket["Service"]) => Effect.Effect<unknown, unknown>): void {
    const producer = this.#chance.pick(this.#producers)
    const { process: { name }, services } = producer
    const { trace } = this.#options
    const asked = `${what} (${++this.#asked})`
    this.#open.set(asked, producer)
    trace.add(name, asked)
    const program = Effect.suspend(() => effect(Context.get(services, Docket.Docket)))
    Effect.runForkWith(services)(program).addObserver((exit) => {
      this.#open.delete(asked)
      if (Exit.isFailure(exit)) trace.add(name, `${asked} fails: ${failureOf(exit)}`)
    })
  }

  #start(index: number): Producer {
    const { client, machine, network, seed, trace } = this.#options
    const process = processOf(seed, machine, trace, `p${++this.#started}`, 0)
    const connection = network.connect(process, () => this.#crash(index, process))
    // a client waits for nothing, and ends with its process
    const layer = Layer.buildWithScope(engineOf(client, connection.store), Scope.makeUnsafe())
    const services = Context.merge(process.context, Effect.runSyncWith(process.context)(layer))
    return { process, connection, services }
  }

  #crash(index: number, process: Process): void {
    const producer = this.#producers[index]!
    // it has crashed before
    if (producer.process !== process) return
    const { connection } = producer
    this.#options.trace.add(process.name, "crashes")
    process.kill()
    connection.close()
    for (const [asked, by] of this.#open) {
      if (by === producer) this.#open.delete(asked)
    }
    this.#producers[index] = this.#start(index)
  }
}
