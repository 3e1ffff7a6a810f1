/**
 * What must not grow with how much there is: scatters, runs behind a concurrency limit, the drain of a rate limit, and runs
 * that are held by two gates, each in several sizes, on each of our stores.
 *
 * Times depend on the machine and on who else uses it. What a server is asked for does not: on Redis the commands are counted,
 * those of scripts included.
 */
import { Agenda, Docket, Task, TaskGroup } from "@effect-docket/dsl"
import { DocketEngine, DocketStore, Worker } from "@effect-docket/runtime"
import { Clock, Effect, Latch, Layer, References, Schema } from "effect"
import type { Ratio, Row, Workload } from "./harness.ts"

const fields = { id: Schema.String, n: Schema.Int, value: Schema.Int }
const values = 100
const limit = 100
const window = 100
/** How many runs are measured while many more are held. */
const measured = 1000

class Item extends Task.make("Item", { payload: fields, success: Schema.Int }) {}
class Limited extends Task.make("Limited", {
  payload: fields,
  success: Schema.Int,
  concurrency: { max: 10, key: ["value"] }
}) {}
class Drained extends Task.make("Drained", { payload: fields, success: Schema.Int, rateLimit: { limit, window } }) {}
class Both extends Task.make("Both", {
  payload: fields,
  success: Schema.Int,
  concurrency: { max: 1, key: ["value"] },
  rateLimit: { limit, window }
}) {}
class Limits extends TaskGroup.make(Item, Limited, Drained, Both) {}

/** How many runs of `Both` are to come, and what says that they have. */
let left = 0
const enough = Latch.makeUnsafe()

const handler = ({ n }: { readonly n: number }) => Effect.succeed(n + 1)
const LimitsLive = Limits.toLayer({
  Item: handler,
  Limited: handler,
  Drained: handler,
  Both: (payload) =>
    Effect.suspend(() => {
      if (--left === 0) enough.openUnsafe()
      return handler(payload)
    })
})

/** Run `n` of `count`. The runs of a value come one after the other, so that most of them are held. */
const payload = (n: number, count: number) => ({ id: `item-${n}`, n, value: Math.floor(n * values / count) })

/** One of our stores. */
export interface Target {
  readonly system: string
  /** A store without dockets, also when it is built again. */
  readonly store: Layer.Layer<DocketStore.DocketStore, unknown>
  /** Microseconds of processor time and commands of its server so far. */
  readonly server?: { readonly micros: () => Promise<number>; readonly commands: () => Promise<number> } | undefined
}

/** Turns of workers so far. */
let turns = 0

/** A store that counts them. */
const counting = ({ store }: Target) =>
  Layer.effect(
    DocketStore.DocketStore,
    DocketStore.DocketStore.useSync(({ docket }) => ({
      docket: (options) =>
        Effect.map(docket(options), (docket) => ({
          ...docket,
          attach: (options) =>
            Effect.map(docket.attach(options), (session) => ({
              ...session,
              turn: (request) =>
                Effect.suspend(() => {
                  turns++
                  return session.turn(request)
                })
            }))
        }))
    }))
  ).pipe(Layer.provide(store))

/** Runs a measurement on a docket of its own. */
const measure = <A, E>(
  target: Target,
  effect: Effect.Effect<
    A,
    E,
    | Docket.ToEnqueue<"Item" | "Limited" | "Drained" | "Both">
    | Task.ToHandler<"Item" | "Limited" | "Drained" | "Both">
    | Agenda.Agenda
    | DocketEngine.DocketEngine
  >
): Promise<A> =>
  Effect.runPromise(
    effect.pipe(
      Effect.orDie,
      Effect.provide(
        Layer.merge(LimitsLive, Limits.client).pipe(
          Layer.provideMerge(Layer.fresh(DocketEngine.layer({ name: "bench" }).pipe(Layer.provide(counting(target))))),
          // a server without persistence is on purpose, and the store would say so each time
          Layer.provideMerge(Layer.succeed(References.MinimumLogLevel, "Error"))
        )
      )
    )
  )

const scatter = (count: number) =>
  Effect.gen(function*() {
    const items = Agenda.fromIterable(Item, Array.from({ length: count }, (_, n) => payload(n, count)))
    const start = (yield* Clock.currentTimeMillis) + 86_400_000
    const begun = performance.now()
    yield* Agenda.scatter(items, { start, over: "1 day" })
    return count / ((performance.now() - begun) / 1000)
  })

/** What an effect takes, per run of so many. */
const perRun = <E, R>(server: Target["server"], count: number, effect: Effect.Effect<unknown, E, R>) =>
  Effect.gen(function*() {
    const asked = Effect.promise(async () => ({
      // what the worker asks for, in turns where there is no server
      calls: await server?.commands() ?? turns,
      micros: await server?.micros() ?? 0
    }))
    const before = yield* asked
    const cpu = process.cpuUsage()
    const begun = performance.now()
    yield* effect
    const millis = performance.now() - begun
    const { system, user } = process.cpuUsage(cpu)
    const after = yield* asked
    return {
      millis,
      time: millis * 1000 / count,
      cpu: (user + system + after.micros - before.micros) / count,
      calls: (after.calls - before.calls) / count
    }
  })

/** Adds so many runs of a task. */
const fill = (
  task: typeof Limited | typeof Drained | typeof Both,
  count: number,
  of: (n: number) => ReturnType<typeof payload>
) =>
  Effect.gen(function*() {
    for (let at = 0; at < count; at += 1000) {
      const size = Math.min(1000, count - at)
      yield* Docket.addAll(Array.from({ length: size }, (_, i) => [task, of(at + i)] as const))
    }
  })

/** What working off so many runs takes, per run; they are there before the worker is. */
const drain = (server: Target["server"], task: typeof Limited | typeof Drained, count: number) =>
  Effect.andThen(
    fill(task, count, (n) => payload(n, count)),
    perRun(server, count, Worker.runUntilIdle(Limits, { concurrency: 100 }))
  )

/** What runs take, per run, while so many are held by two gates, of which now the one and now the other is full. */
const behind = (server: Target["server"], held: number) =>
  Effect.gen(function*() {
    yield* fill(Both, held, (n) => ({ ...payload(n, held), value: n % 10 }))
    // in a quick look fewer are held
    const runs = Math.min(measured, held / 2)
    left = runs
    yield* enough.close
    const some = Effect.andThen(Layer.build(Worker.layer(Limits, { concurrency: 100 })), enough.await)
    return yield* perRun(server, runs, Effect.scoped(some))
  })

/** A workload in several sizes, whose cost per run must not grow. */
interface Family {
  readonly name: (count: string) => string
  readonly counts: ReadonlyArray<number>
  /** Whether the figure is a rate; else it is a cost per run. */
  readonly isRate?: boolean | undefined
}

const comma = (n: number): string => n.toLocaleString("en-US")

/** The workloads, and how their costs grow. */
export const make = (
  target: Target,
  scale: number
): {
  readonly workloads: ReadonlyArray<Workload>
  readonly ratios: (rows: ReadonlyArray<Row>) => ReadonlyArray<Ratio>
} => {
  const { server, system } = target
  const sizes = (...full: ReadonlyArray<number>) => full.map((count) => Math.max(100, Math.round(count * scale)))
  const families: Array<Family> = []

  /** Figures of one and the same measurement per size, each a family. */
  const several = <Name extends string>(
    counts: ReadonlyArray<number>,
    take: (count: number) => Promise<Readonly<Record<Name, number>>>,
    shown: ReadonlyArray<
      Omit<Workload, "subjects" | "workload"> & {
        readonly figure: Name
        readonly name: (count: string) => string
        /** Whether the cost per run follows from it. */
        readonly grows?: "rate" | "cost" | undefined
      }
    >
  ): ReadonlyArray<Workload> => {
    for (const { grows, name } of shown) {
      if (grows !== undefined) families.push({ name, counts, isRate: grows === "rate" })
    }
    return counts.flatMap((count) => {
      const taken: Array<Readonly<Record<Name, number>>> = []
      return shown.map(({ figure, name, ...workload }): Workload => {
        let at = 0
        return {
          ...workload,
          workload: name(comma(count)),
          subjects: [{ system, measure: async () => (taken[at++] ??= await take(count))[figure] }]
        }
      })
    })
  }

  /** What does not depend on the machine, nor on who else uses it. */
  const calls = (family: (count: string) => string) => ({
    figure: "calls" as const,
    name: (count: string) => `${family(count)}: ${server === undefined ? "turns" : "commands"} per run`,
    unit: "calls",
    better: "less" as const,
    grows: "cost" as const
  })

  const workloads = [
    ...several(
      sizes(1000, 10_000, 100_000),
      (count) => measure(target, Effect.map(scatter(count), (rate) => ({ rate }))),
      [{ figure: "rate", name: (count) => `scatter ${count}`, unit: "runs/s", grows: "rate" }]
    ),
    ...several(
      sizes(1000, 10_000),
      (count) => measure(target, drain(server, Limited, count)),
      [
        {
          figure: "time",
          name: (count) => `limit of 10, ${count}: time per run`,
          unit: "µs",
          better: "less",
          grows: "cost"
        },
        {
          figure: "cpu",
          name: (count) => `limit of 10, ${count}: CPU per run`,
          unit: "µs",
          better: "less",
          grows: "cost"
        },
        calls((count) => `limit of 10, ${count}`)
      ]
    ),
    ...several(
      [200, 400, 800, 2000],
      (count) => measure(target, drain(server, Drained, count)),
      [
        { figure: "millis", name: (count) => `rate limit 100/100 ms, ${count}`, unit: "ms", better: "less" },
        {
          figure: "cpu",
          name: (count) => `rate limit, ${count}: CPU per run`,
          unit: "µs",
          better: "less",
          grows: "cost"
        },
        calls((count) => `rate limit, ${count}`)
      ]
    ),
    ...several(
      sizes(2000, 20_000),
      (held) => measure(target, behind(server, held)),
      [
        {
          figure: "cpu",
          name: (held) => `two gates, ${held} held: CPU per run`,
          unit: "µs",
          better: "less",
          grows: "cost"
        },
        calls((held) => `two gates, ${held} held`)
      ]
    )
  ]

  /** What a run costs where there are ten times as many. */
  const ratios = (rows: ReadonlyArray<Row>): ReadonlyArray<Ratio> =>
    families.flatMap(({ counts, isRate, name }) => {
      const costs = counts.flatMap((count) => {
        const row = rows.find((row) => row.system === system && row.workload === name(comma(count)))
        return row === undefined ? [] : [{ count, cost: isRate === true ? 1 / row.median : row.median }]
      })
      return costs.flatMap(({ cost, count }): ReadonlyArray<Ratio> => {
        const tenth = costs.find((one) => one.count * 10 === count)
        return tenth === undefined ? [] : [{
          workload: `${system}: cost per run, ${name(comma(count))}`,
          concurrency: null,
          against: `that with ${comma(tenth.count)}`,
          ratio: cost / tenth.cost,
          better: "less"
        }]
      })
    })

  return { workloads, ratios }
}
