/**
 * What is measured on the Redis store, for every system alike: one process adds and works, on the same server, one system
 * after the other on an empty database.
 *
 * Rates of processing count from the start of the worker until everything is settled. Where a system does not say when that
 * is, they count until its worker has stopped, which takes longer.
 */
import { percentile, type Ratio, type Row, type Subject, type Workload } from "../harness.ts"
import type { Server } from "./server.ts"
import type { Session, System } from "./system.ts"

const comma = (n: number): string => n.toLocaleString("en-US")

const sleep = (millis: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, millis))

const now = (): number => performance.timeOrigin + performance.now()

/** Per second, from a moment until now. */
const rate = (n: number, begun: number): number => n / ((now() - begun) / 1000)

/** Calls once, at the `n`th call. */
const nth = (n: number) => {
  let left = n
  let done = () => {}
  const reached = new Promise<void>((resolve) => {
    done = resolve
  })
  return {
    reached,
    call: () => {
      if (--left === 0) done()
    }
  }
}

/** Works until `n` runs are settled, and gives the moment when they were. */
const work = async (system: System, session: Session, concurrency: number, n: number): Promise<number> => {
  const { call, reached } = nth(n)
  const ignore = () => {}
  const worker = system.tellsSettled
    ? await session.work(concurrency, ignore, call)
    : await session.work(concurrency, call, ignore)
  await reached
  if (!system.tellsSettled) await worker.stop()
  const end = now()
  if (system.tellsSettled) await worker.stop()
  return end
}

/** The workloads. `scale` is 1 for real measurements, less for a quick look. */
export const make = (server: Server, systems: ReadonlyArray<System>, scale: number): ReadonlyArray<Workload> => {
  const n = (full: number) => Math.max(100, Math.round(full * scale))

  /** A measurement on an empty database. */
  const fresh = async <A>(system: System, measure: (session: Session) => Promise<A>): Promise<A> => {
    await server.flush()
    const session = await system.open(server.port)
    const figure = await measure(session)
    await session.close()
    return figure
  }

  const each = (measure: (system: System) => () => Promise<number>): ReadonlyArray<Subject> =>
    systems.map((system) => ({ system: system.name, measure: measure(system), note: system.note }))

  const adding = (workload: string, count: number, add: (session: Session) => Promise<void>): Workload => ({
    workload,
    unit: "runs/s",
    subjects: each((system) => () =>
      fresh(system, async (session) => {
        const begun = now()
        await add(session)
        return rate(count, begun)
      })
    )
  })

  /** Workloads that show several figures of one and the same measurement. */
  const several = <Name extends string>(
    measure: (system: System) => Promise<Readonly<Record<Name, number>>>,
    shown: ReadonlyArray<Omit<Workload, "subjects"> & { readonly figure: Name }>
  ): ReadonlyArray<Workload> => {
    const taken = new Map<System, Array<Readonly<Record<Name, number>>>>()
    return shown.map(({ figure, ...workload }) => {
      const seen = new Map<System, number>()
      return {
        ...workload,
        subjects: each((system) => async () => {
          const figures = taken.get(system) ?? []
          const at = seen.get(system) ?? 0
          taken.set(system, figures)
          seen.set(system, at + 1)
          return (figures[at] ??= await measure(system))[figure]
        })
      }
    })
  }

  const processing = (count: number, concurrency: number): ReadonlyArray<Workload> =>
    several(
      (system) =>
        fresh(system, async (session) => {
          await session.addAll(0, count)
          const commands = await server.commands()
          const micros = await server.micros()
          const cpu = process.cpuUsage()
          const begun = now()
          const end = await work(system, session, concurrency, count)
          const { system: inKernel, user } = process.cpuUsage(cpu)
          return {
            rate: count / ((end - begun) / 1000),
            commands: (await server.commands() - commands) / count,
            node: (user + inKernel) / count,
            redis: (await server.micros() - micros) / count,
            cpu: (user + inKernel + await server.micros() - micros) / count
          }
        }),
      [
        { workload: `process ${comma(count)}`, concurrency, unit: "runs/s", figure: "rate" },
        ...(count === n(20_000) && concurrency === 100
          ? [
            { workload: "Redis commands per run", concurrency, unit: "calls", better: "less", figure: "commands" },
            { workload: "CPU per run, Node", concurrency, unit: "µs", better: "less", figure: "node" },
            { workload: "CPU per run, Redis", concurrency, unit: "µs", better: "less", figure: "redis" },
            { workload: "CPU per run, Node + Redis", concurrency, unit: "µs", better: "less", figure: "cpu" }
          ] as const
          : [])
      ]
    )

  /** Milliseconds between a moment and the start of each run. */
  const delays = async (
    system: System,
    count: number,
    add: (session: Session, from: Array<number>) => Promise<void>
  ) =>
    fresh(system, async (session) => {
      const figures: Array<number> = []
      const from: Array<number> = []
      const { call, reached } = nth(count)
      const worker = await session.work(10, (n) => {
        figures.push(now() - from[n]!)
        call()
      }, () => {})
      await add(session, from)
      await reached
      await worker.stop()
      return { p50: percentile(figures, 0.5), p99: percentile(figures, 0.99) }
    })

  const latency = several(
    (system) =>
      delays(system, n(200), async (session, from) => {
        const begun = now()
        for (let i = 0; i < n(200); i++) {
          // oxlint-disable-next-line no-await-in-loop -- fifty a second
          await sleep(Math.max(0, begun + i * 20 - now()))
          from[i] = now()
          // oxlint-disable-next-line no-await-in-loop -- one after the other
          await session.addEach(i, 1, 1)
        }
      }),
    [
      { workload: "add to start at 50/s, p50", unit: "ms", better: "less", warm: false, figure: "p50" },
      { workload: "add to start at 50/s, p99", unit: "ms", better: "less", warm: false, figure: "p99" }
    ]
  )

  const punctuality = several(
    (system) =>
      delays(system, n(1000), async (session, from) => {
        // one call each takes a while for the slowest; none may be late when it is added
        const begun = Date.now() + n(1000)
        await Promise.all(Array.from({ length: n(1000) }, (_, i) => {
          from[i] = begun + i * 10
          return session.addAt(i, from[i])
        }))
        if (Date.now() > begun) throw new Error("adding took longer than it may")
      }),
    [
      { workload: "start minus due, p50", unit: "ms", better: "less", warm: false, figure: "p50" },
      { workload: "start minus due, p99", unit: "ms", better: "less", warm: false, figure: "p99" }
    ]
  )

  const atOneInstant: Workload = {
    workload: `${comma(n(20_000))} due at one instant, until all done`,
    concurrency: 100,
    unit: "runs/s",
    subjects: each((system) => () =>
      fresh(system, async (session) => {
        // as long as the slowest takes to add them, on a busy machine
        const due = Date.now() + 500 + n(20_000) / 8
        await session.addAll(0, n(20_000), due)
        if (Date.now() > due) throw new Error("adding took longer than it may")
        const end = await work(system, session, 100, n(20_000))
        return n(20_000) / ((end - due) / 1000)
      })
    )
  }

  /** The backlog is made once, and topped up for each round. */
  const beside = (backlog: number): Workload => {
    const kept = new Map<System, { readonly session: Session; added: number; done: number }>()
    return {
      workload: `process ${comma(n(20_000))} of ${comma(n(backlog))} more`,
      concurrency: 100,
      unit: "runs/s",
      warm: backlog < 100_000,
      subjects: each((system) => async () => {
        let it = kept.get(system)
        if (it === undefined) {
          if (kept.size === 0) await server.flush()
          kept.set(system, it = { session: await system.open(server.port), added: 0, done: 0 })
        }
        const { session } = it
        const missing = n(backlog) + n(20_000) - (it.added - it.done)
        await session.addAll(it.added, missing)
        it.added += missing
        const begun = now()
        const end = await work(system, session, 100, n(20_000))
        it.done += n(20_000)
        return n(20_000) / ((end - begun) / 1000)
      }),
      end: async () => {
        await Promise.all(Array.from(kept.values(), ({ session }) => session.close()))
        kept.clear()
      }
    }
  }

  const memory: Workload = {
    workload: "memory of a waiting run, in Redis",
    unit: "bytes",
    better: "less",
    warm: false,
    subjects: each((system) => () =>
      fresh(system, async (session) => {
        const before = await server.bytes()
        await session.addAll(0, n(20_000))
        return (await server.bytes() - before) / n(20_000)
      })
    )
  }

  return [
    adding("add, one at a time", n(10_000), (session) => session.addEach(0, n(10_000), 1)),
    adding("add, 100 in flight", n(20_000), (session) => session.addEach(0, n(20_000), 100)),
    adding("add, bulk of 1,000", n(50_000), (session) => session.addAll(0, n(50_000))),
    ...[1, 10, 100].flatMap((concurrency) => processing(n(20_000), concurrency)),
    ...processing(n(100_000), 100),
    atOneInstant,
    ...latency,
    ...punctuality,
    beside(1000),
    beside(1_000_000),
    memory
  ]
}

/** How the rate of each system changes with the backlog. */
export const backlogRatios = (rows: ReadonlyArray<Row>): ReadonlyArray<Ratio> => {
  const beside = rows.filter(({ workload }) => workload.endsWith(" more"))
  return beside.slice(beside.length / 2).flatMap(({ concurrency, median, system, workload }) => {
    const small = beside.find((row) => row.system === system)
    return small === undefined || small.workload === workload
      ? []
      : [{
        workload: `${system}: ${workload}`,
        concurrency,
        against: `its rate with few waiting`,
        ratio: median / small.median,
        better: "more" as const
      }]
  })
}
