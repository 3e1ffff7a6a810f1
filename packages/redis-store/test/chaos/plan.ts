/**
 * What goes wrong, and when: all of it follows from a seed.
 */
import { Effect, Random } from "effect"

/** Where the runs are: on one server with an append-only file, or on a master and its replica behind three Sentinels. */
export type Servers = "single" | "sentinel"

/** What goes wrong. */
export type Kind =
  | "server killed"
  | "server stands still"
  | "scripts flushed"
  | "clients killed"
  | "master killed"
  | "Sentinel killed"
  | "worker killed"
  | "worker stands still"
  | "worker asked to end"
  | "clock jumps"
  | "connections cut"
  | "network slow"
  | "answers dropped"
  | "half open"
  | "unreachable"
  | "producer killed"

/** Whom it hits. */
export type Target = "server" | `worker ${number}` | `producer ${number}`

/** Whether a member is of the other build, where there is one: every other one is. */
export const isOfOther = (name: string): boolean => Number(name.split(" ")[1]) % 2 === 1

/** Something that goes wrong. */
export interface Fault {
  readonly kind: Kind
  readonly target: Target
  /** From the begin of the plan, in milliseconds. */
  readonly at: number
  readonly millis: number
}

interface Choice {
  readonly kind: Kind
  readonly hits: "server" | "worker" | "producer" | "client"
  /** How often, compared with the others. */
  readonly weight: number
  /** For how long: shorter than a lease, or longer as well. */
  readonly lasts: (lease: number) => readonly [from: number, to: number]
}

const brief = () => [200, 1500] as const
const none = () => [0, 0] as const
// past the lease as often as not
const long = (lease: number) => [300, 2 * lease] as const

const ofWorkers: ReadonlyArray<Choice> = [
  { kind: "worker killed", hits: "worker", weight: 4, lasts: brief },
  { kind: "worker stands still", hits: "worker", weight: 4, lasts: long },
  { kind: "worker asked to end", hits: "worker", weight: 2, lasts: brief },
  { kind: "clock jumps", hits: "client", weight: 2, lasts: none },
  { kind: "producer killed", hits: "producer", weight: 1, lasts: brief }
]

const choices: { readonly [S in Servers]: ReadonlyArray<Choice> } = {
  single: [
    ...ofWorkers,
    { kind: "server killed", hits: "server", weight: 2, lasts: brief },
    { kind: "server stands still", hits: "server", weight: 1, lasts: brief },
    { kind: "scripts flushed", hits: "server", weight: 1, lasts: none },
    { kind: "clients killed", hits: "server", weight: 2, lasts: none },
    { kind: "connections cut", hits: "client", weight: 3, lasts: none },
    { kind: "network slow", hits: "client", weight: 2, lasts: () => [500, 3000] },
    { kind: "answers dropped", hits: "client", weight: 3, lasts: brief },
    { kind: "half open", hits: "client", weight: 2, lasts: none },
    { kind: "unreachable", hits: "client", weight: 2, lasts: long }
  ],
  sentinel: [
    ...ofWorkers,
    { kind: "master killed", hits: "server", weight: 4, lasts: () => [6000, 8000] },
    { kind: "Sentinel killed", hits: "server", weight: 1, lasts: brief },
    { kind: "clients killed", hits: "server", weight: 1, lasts: none }
  ]
}

/** What to plan. */
export interface Options {
  readonly seed: number
  readonly servers: Servers
  /** For how long something may begin. */
  readonly millis: number
  readonly workers: number
  readonly producers: number
  readonly lease: number
}

/** Kinds that a plan of these servers may have. */
export const kindsOf = (servers: Servers): ReadonlyArray<Kind> => choices[servers].map(({ kind }) => kind)

// a process that was killed has to start, and then to do something
const rest = 4000

const until = (fault: Fault): number => fault.at + fault.millis

/**
 * The plan. Whom something hits is not hit again until that is over; each kind comes about as often as its weight says, and
 * none is left out as long as there is time.
 */
export const make = (options: Options): ReadonlyArray<Fault> =>
  Effect.runSync(Random.withSeed(plan(options), `${options.servers} ${options.seed}`))

const plan = Effect.fnUntraced(function*({ lease, millis, producers, servers, workers }: Options) {
  const faults: Array<Fault> = []
  const all = choices[servers]
  const count = { server: 1, worker: workers, producer: producers, client: workers + producers }
  // the next one is the one that is furthest behind its share
  let order = yield* Random.shuffle(all)
  const used = new Map<Kind, number>()
  for (let at = 500; at < millis; at += yield* Random.nextIntBetween(150, 1100)) {
    order = order.toSorted((a, b) => (used.get(a.kind) ?? 0) / a.weight - (used.get(b.kind) ?? 0) / b.weight)
    for (const { hits, kind, lasts } of order) {
      const n = yield* Random.nextIntBetween(0, count[hits] - 1)
      const target: Target = hits === "server"
        ? "server"
        : hits === "producer"
        ? `producer ${n}`
        : n < workers
        ? `worker ${n}`
        : `producer ${n - workers}`
      const latest = faults.findLast((fault) => fault.target === target)
      if (latest !== undefined && until(latest) + rest > at) continue
      used.set(kind, (used.get(kind) ?? 0) + 1)
      faults.push({ kind, target, at, millis: yield* Random.nextIntBetween(...lasts(lease)) })
      break
    }
  }
  return faults
})
