/**
 * The end of a simulation: nothing goes wrong any more, and everything has to come to rest. What does not is a violation.
 */
import type { Docket } from "@effect-docket/dsl"
import * as Interpreter from "@effect-docket/dsl/Interpreter"
import * as Cause from "effect/Cause"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Stream from "effect/Stream"
import * as MemoryStore from "../../MemoryStore.ts"
import * as additions from "./additions.ts"
import type { World } from "./world.ts"

// Longer than a lease of a simulation and the longest wait of a worker for a store that was away.
const grace = 30_000

// Within that, a worker takes what has become due when nothing goes wrong.
const reaction = 1000

// Looks at what is left, with more time in between each time: a quarter of an hour in all. A body takes less.
const looks = 42

/** Workers are replaced, and that costs nobody a claim. */
const deploy = (world: World): void => {
  const before = Array.from(world.workers)
  world.start(true)
  for (const worker of before) world.stop(worker)
}

/** Nothing goes wrong from here on; measures of operators stay. Those who are there have to do it, if anybody is. */
const calm = Effect.fnUntraced(function*(world: World) {
  world.network.isCalm = true
  world.trace.add("", "nothing goes wrong any more")
  for (const { process } of world.workers) process.thaw()
  world.isAlone = true
  yield* Effect.sleep(grace)
  yield* explains(world, false)
  world.isAlone = false
  world.start(true)
  while (world.workers.size < world.most) world.start()
  yield* Effect.sleep(grace)
  world.network.catchUp()
  world.ledger.isCalm = true
  deploy(world)
  yield* explains(world, true)
})

const left = (world: World): Effect.Effect<ReadonlyArray<Docket.EncodedRun>> =>
  Effect.orDie(Stream.runCollect(world.store.snapshot))

/** Whether something waits for what will come by itself, for an operator, or for a worker that is not busy. */
const isVisiblyWaiting = (
  explanation: Docket.Explanation,
  now: number,
  mayWait: boolean,
  isComplete: boolean
): boolean => {
  switch (explanation._tag) {
    case "NotDue":
      return DateTime.toEpochMillis(explanation.at) >= now
    case "Retrying":
      return DateTime.toEpochMillis(explanation.next) >= now
    case "Waiting":
      return mayWait
    case "NoWorker":
    case "NoInterpreter":
      return !isComplete
    case "Unknown":
      return false
    default:
      return true
  }
}

/** Every run that is left is running, or says what it waits for. */
const explains = Effect.fnUntraced(function*(world: World, isComplete: boolean) {
  const { claims } = world.ledger.figures
  yield* Effect.sleep(grace)
  // those that were to begin work may have found no store
  if (world.workers.size === 0) return
  const isBusy = world.ledger.figures.claims > claims
  for (const { due, key, state, thread } of yield* left(world)) {
    const explanation = yield* Effect.orDie(world.store.explain(key))
    const isExpired = thread?.deadline !== undefined && thread.deadline < world.machine.now - grace
    if (isExpired && isComplete && explanation._tag !== "Paused" && state !== "Running") {
      world.ledger.violation(`${key} is ${state}, and its deadline is over`)
    }
    // somebody is on the way to what has just become due
    const mayWait = isBusy || due > world.machine.now - reaction
    if (isVisiblyWaiting(explanation, world.machine.now, mayWait, isComplete)) continue
    world.ledger.violation(`${key} is ${state} and does not move: ${explanation._tag}`)
  }
})

const isPerpetual = (world: World, task: string): boolean => {
  const known = world.subject.group.tasks.get(task)
  return known !== undefined && Interpreter.resolved(known).perpetual !== undefined
}

/** Ends what would go on for ever; what is left otherwise. */
const end = Effect.fnUntraced(function*(world: World) {
  const runs = yield* left(world)
  for (const { key, task } of runs) {
    if (!isPerpetual(world, task)) continue
    world.network.catchUp()
    world.trace.add("", `ends ${key}`)
    additions.cancelled(world.ledger, key, undefined, yield* Effect.orDie(world.store.cancel(key)))
  }
  world.network.catchUp()
  return runs.filter(({ task }) => !isPerpetual(world, task))
})

/** Waits for everything, and ends what has no end. */
const drain = Effect.fnUntraced(function*(world: World) {
  let look = 1
  while (look <= looks) {
    const runs = yield* end(world)
    if (runs.length === 0) return
    const next = Math.min(...runs.map(({ due }) => due)) - world.machine.now
    if (runs.every(({ state }) => state === "Scheduled") && next > 0) yield* Effect.sleep(next)
    else yield* Effect.sleep(1000 * look++)
  }
  for (const { key, state } of yield* end(world)) world.ledger.violation(`${key} is ${state} for ever`)
})

/** Workers stop; they may have sown a perpetual task again meanwhile. */
const close = Effect.fnUntraced(function*(world: World) {
  world.isAlone = true
  for (const worker of world.workers) world.stop(worker)
  yield* Effect.sleep("2 minutes")
  for (const { process } of world.workers) world.ledger.violation(`${process.name} does not stop`)
  yield* end(world)
})

/** Each generation has ended, and no claim is open. */
const settled = (world: World): void => {
  const { ledger } = world
  for (const { ended, generation, key, latest } of ledger.generations.values()) {
    if (ended === undefined) ledger.violation(`${key}#${generation} never ended`)
    if (latest === undefined || latest.settled === undefined) continue
    const { settled, starts, thread } = latest
    if (settled === "Completed" && thread === undefined && starts === 0) {
      ledger.violation(`${key}#${generation} is completed without a body`)
    }
  }
  // a member may have been left out, because its gather knew how it had ended
  for (const [key, { isMember }] of ledger.unseen) {
    if (!isMember) ledger.violation(`the successor of ${key} is missing`)
  }
  for (const what of world.producers.open) ledger.violation(`a producer ${what}, for ever`)
}

/** What is kept is forgotten, and nothing is left. */
const nothingLeft = Effect.fnUntraced(function*(world: World) {
  yield* Effect.sleep(world.ledger.retention + 60_000)
  const { wakeAt, ...sizes } = MemoryStore.sizes(world.store)
  for (const [name, size] of Object.entries(sizes)) {
    // the ledger listens
    if (size !== (name === "subscribers" ? 1 : 0)) world.ledger.violation(`at the end ${name} is ${size}`)
  }
  if (wakeAt !== Infinity) world.ledger.violation(`at the end the store wants to wake at ${wakeAt}`)
})

const textOf = (reason: Cause.Reason<unknown>): string => {
  const error = Cause.isFailReason(reason) ? reason.error : Cause.isDieReason(reason) ? reason.defect : reason._tag
  return error instanceof Error ? error.message : String(error)
}

/** Lets everything come to rest, and says what did not. */
export const rest = (world: World): Effect.Effect<void> =>
  Effect.gen(function*() {
    yield* calm(world)
    const { pauses, strikes } = world.ledger.measures
    for (const pause of pauses) yield* Effect.orDie(world.store.resume(pause))
    for (const strike of strikes) yield* Effect.orDie(world.store.restore(strike))
    for (const pause of pauses) world.ledger.measures.resumed(pause)
    for (const strike of strikes) world.ledger.measures.restored(strike)
    yield* drain(world)
    yield* close(world)
    settled(world)
    yield* nothingLeft(world)
    const { verify } = world.subject
    if (verify === undefined) return
    const exit = yield* Effect.exit(verify)
    if (Exit.isFailure(exit)) world.ledger.violation(`verify fails: ${exit.cause.reasons.map(textOf).join(", ")}`)
  })
