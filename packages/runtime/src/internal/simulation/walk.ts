/**
 * What happens in a simulation, by chance: producers add, operators intervene, workers come and go, the clock jumps.
 */
import { Docket, type Task } from "@effect-docket/dsl"
import * as Interpreter from "@effect-docket/dsl/Interpreter"
import * as Effect from "effect/Effect"
import { Chance } from "./chance.ts"
import type { Member, World } from "./world.ts"

/** What can happen beside what producers do. */
export type Event =
  | "add"
  | "replace"
  | "cancel"
  | "pause"
  | "strike"
  | "clear"
  | "redrive"
  | "kill"
  | "stop"
  | "freeze"
  | "skew"
  | "jump"
  | "outage"

/** How often each of them comes up, of all steps that are taken. */
const weights: ReadonlyArray<readonly [Event | "produce" | "await" | "start" | "resume" | "restore", number]> = [
  ["produce", 40],
  ["await", 8],
  ["start", 6],
  ["add", 5],
  ["replace", 8],
  ["cancel", 8],
  ["pause", 3],
  ["resume", 5],
  ["strike", 2],
  ["restore", 4],
  ["clear", 1],
  ["redrive", 3],
  ["kill", 4],
  ["stop", 3],
  ["freeze", 5],
  ["skew", 3],
  ["jump", 4],
  ["outage", 2]
]

/** Every kind of event. */
export const events = weights.flatMap(([name]) =>
  name === "produce" || name === "await" || name === "start" || name === "resume" || name === "restore" ? [] : [name]
)

const total = weights.reduce((sum, [, weight]) => sum + weight, 0)

const draw = (chance: Chance) => {
  let left = chance.below(total)
  for (const [name, weight] of weights) {
    if (left < weight) return name
    left -= weight
  }
  return "produce"
}

/** Takes a step. Each has chance of its own, so that it is the same step whatever came before was. */
const step = (world: World, number: number, enabled: ReadonlySet<string>): void => {
  const chance = new Chance(world.seed, `step ${number}`)
  const name = draw(chance)
  if (events.includes(name as Event) && !enabled.has(name)) return
  const { ledger, machine, network, producers, subject, trace } = world
  const tasks = Array.from(subject.group.tasks.values())
  const open = Array.from(ledger.current.values()).filter(({ ended }) => ended === undefined)
  // most of all what has not ended
  const keys = open.length > 0 && chance.happens(0.8) ? open.map(({ key }) => key) : Array.from(ledger.current.keys())
  const key = keys.length === 0 ? undefined : chance.pick(keys)
  const workers = Array.from(world.workers).filter(({ isStopping }) => !isStopping)
  const worker = workers.length === 0 ? undefined : chance.pick(workers)
  switch (name) {
    case "produce":
      return producers.ask("produces", () => subject.produce)
    case "await": {
      if (key === undefined) return
      const { generation } = ledger.current.get(key)!
      return producers.ask(`waits for ${key}#${generation}`, (docket) => docket.awaitOutcome(key, generation))
    }
    case "add":
    case "replace":
      return key === undefined ? undefined : again(world, chance, key, name)
    case "redrive":
      return redrive(world, chance)
    case "cancel":
      return key === undefined ? undefined : producers.ask(`cancels ${key}`, (docket) => docket.cancel(key))
    case "pause": {
      const task = chance.happens(0.7) ? chance.pick(tasks) : undefined
      const lane = chance.happens(0.3) ? Interpreter.resolved(chance.pick(tasks)).lane : undefined
      return producers.ask(
        `pauses ${nameOf(task, lane)}`,
        (docket) => docket.pause({ task, lane, reason: "simulated" })
      )
    }
    case "resume": {
      const { pauses } = ledger.measures
      if (pauses.length === 0) return
      const { lane, task: tag } = chance.pick(pauses)
      const task = subject.group.tasks.get(tag ?? "")
      return producers.ask(`resumes ${nameOf(task, lane)}`, (docket) => docket.resume({ task, lane }))
    }
    case "strike": {
      const { _tag: task } = chance.pick(tasks)
      const until = chance.happens(0.5) ? machine.now + chance.pick([1000, 10_000, 60_000]) : undefined
      const where = conditions(world, chance, task)
      const whom = where.map(({ field, values }) => ` with ${field} ${String(values[0])}`).join()
      return producers.ask(
        `strikes ${task}${whom}`,
        (docket) => docket.strike({ task, where, reason: "simulated", until })
      )
    }
    case "restore": {
      const { strikes } = ledger.measures
      if (strikes.length === 0) return
      const { task, where } = chance.pick(strikes)
      return producers.ask(`restores ${task}`, (docket) => docket.restore({ task, where }))
    }
    case "clear":
      return producers.ask("clears", (docket) => docket.clear)
    case "start":
      return world.workers.size < world.most ? world.start() : undefined
    case "kill":
      return worker && world.kill(worker, "is killed")
    case "stop":
      return worker && world.stop(worker)
    case "freeze":
      return worker && freeze(world, worker, chance.pick([100, 1000, 5000, 20_000]))
    case "skew": {
      const millis = chance.pick([-3_600_000, -1000, 0, 1000, 300_000])
      if (worker !== undefined) trace.add(worker.process.name, `has its clock set ${millis} ahead`)
      return worker?.process.set(millis)
    }
    case "jump": {
      const millis = chance.pick([50, 1000, 5000, 60_000, 3_600_000])
      trace.add("", `the clock jumps by ${millis}`)
      return machine.jump(millis)
    }
    case "outage": {
      const millis = chance.pick([500, 5000, 20_000])
      trace.add("", `the store is away for ${millis}`)
      network.awayUntil = machine.now + millis
    }
  }
}

/** Adds what was added before, as it was or in its place. */
const again = (world: World, chance: Chance, key: string, name: "add" | "replace"): void => {
  const addition = world.ledger.additions.get(key)
  // members of a gather are added by their flow
  if (addition === undefined || addition.thread?.parent !== undefined) return
  const { redrive: _, ...rest } = addition
  const due: Docket.Due = { after: chance.pick([0, 0, 20, 1000, 30_000]) }
  const onExisting = name === "replace" ? "replace" : chance.pick(["keep", "fail"] as const)
  world.producers.ask(
    `${name}s ${key}`,
    (docket) => docket.addEncoded([{ ...rest, due, onExisting }], { atomic: true })
  )
}

/** Adds what failed for good once more: some runs of a task, or of a flow. */
const redrive = (world: World, chance: Chance): void => {
  const { flows, group } = world.subject
  const failed = Array.from(world.ledger.current.values()).filter(({ ended, latest }) =>
    ended === "Exit" && latest?.settled === "Failed"
  )
  if (failed.length === 0) return
  const { latest } = chance.pick(failed)
  const flow = flows.find(({ _tag }) => _tag === latest!.thread?.flow)
  const what = flow ?? group.tasks.get(latest!.task)
  if (what === undefined) return
  const limit = chance.pick([1, 3])
  const again: unknown = Docket.redrive(what as Task.Any, { limit })
  // a producer has what it asks for
  world.producers.ask(`redrives ${what._tag}`, () => again as Effect.Effect<unknown, unknown>)
}

/** Whom a pause is about. */
const nameOf = (task: Task.Any | undefined, lane: string | undefined): string =>
  `${task?._tag ?? "everything"}${lane === undefined ? "" : ` in ${lane}`}`

/** Whom of a task a strike is about: everybody, or those that are as one that is there in one field. */
const conditions = (world: World, chance: Chance, task: string): ReadonlyArray<Docket.EncodedCondition> => {
  const like = Array.from(world.ledger.additions.values()).filter((addition) => addition.task === task)
  if (like.length === 0 || chance.happens(0.5)) return []
  const payload: unknown = JSON.parse(chance.pick(like).payload)
  const fields = Object.entries(payload ?? {}).filter(([, value]) => typeof value === "number")
  if (fields.length === 0) return []
  const [field, value] = chance.pick(fields)
  return [{ field, operator: "equals", values: [value], bigint: false }]
}

/** A worker stands still for a while, without knowing it. */
const freeze = (world: World, { process }: Member, millis: number): void => {
  world.trace.add(process.name, `stands still for ${millis}`)
  process.freeze()
  world.machine.at(world.machine.now + millis, () => process.thaw())
}

/** Takes so many steps, with pauses between them. */
export const walk = (world: World, steps: number, enabled: ReadonlySet<string>): Effect.Effect<void> =>
  Effect.gen(function*() {
    world.start()
    for (let number = 1; number <= steps; number++) {
      yield* Effect.sleep(new Chance(world.seed, `pause ${number}`).pick([0, 0, 0, 1, 10, 50, 200, 1000, 5000]))
      step(world, number, enabled)
    }
  })
