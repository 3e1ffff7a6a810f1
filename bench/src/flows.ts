/**
 * Flows: chains, fan-out and fan-in, many small flows at once, memory of a waiting flow.
 */
import { bullmq } from "./flows/bullmq.ts"
import { docket, inMemory } from "./flows/docket.ts"
import type { Session, System } from "./flows/system.ts"
import { heap, type Suite, type Workload } from "./harness.ts"
import * as servers from "./redis/server.ts"

const comma = (n: number): string => n.toLocaleString("en-US")

/** The suite. */
export const open = async (scale: number): Promise<Suite> => {
  const server = await servers.start()
  const n = (full: number) => Math.max(10, Math.round(full * scale))
  const fresh = async <A>(system: System, measure: (session: Session) => Promise<A>): Promise<A> => {
    await server.flush()
    const session = await system.open(server.port)
    const figure = await measure(session)
    await session.close()
    return figure
  }
  const timed = (
    workload: string,
    unit: string,
    count: number,
    run: (session: Session) => Promise<void>
  ): Workload => ({
    workload,
    unit,
    subjects: [docket, bullmq, inMemory].map((system) => ({
      system: system.name,
      note: system.note,
      measure: () =>
        fresh(system, async (session) => {
          const begun = performance.now()
          await run(session)
          return count / ((performance.now() - begun) / 1000)
        })
    }))
  })
  const waiting = n(10_000)
  return {
    machine: { redis: server.version },
    close: server.stop,
    workloads: [
      timed(`chain of ${comma(n(1000))} steps`, "steps/s", n(1000), (session) => session.chain(n(1000))),
      ...[n(1000), n(10_000)].map((members) =>
        timed(`fan-out and join of ${comma(members)}`, "runs/s", members, (session) => session.fan(members))
      ),
      timed(`${comma(n(1000))} flows of 7 runs at once`, "flows/s", n(1000), (session) => session.many(n(1000))),
      {
        workload: "memory of a waiting flow",
        unit: "bytes",
        better: "less",
        subjects: [docket, bullmq, inMemory].map((system) => ({
          system: system.name,
          measure: () =>
            fresh(system, async (session) => {
              const before = system === inMemory ? heap() : await server.bytes()
              await session.waiting(waiting)
              return ((system === inMemory ? heap() : await server.bytes()) - before) / waiting
            })
        }))
      }
    ]
  }
}
