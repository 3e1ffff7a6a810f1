/**
 * Mutations of the worker.
 */
import { type Mutation, onMemory, unit } from "./mutation.ts"

const loop = "packages/runtime/src/internal/worker/loop.ts"
const pipeline = "packages/runtime/src/internal/worker/pipeline.ts"
const retry = "packages/runtime/src/internal/worker/retry.ts"
const slot = "packages/runtime/src/internal/worker/slot.ts"
const perpetuate = "packages/runtime/src/internal/worker/perpetuate.ts"
const overlap = "packages/runtime/src/internal/worker/overlap.ts"

const retries = "packages/runtime/test/Retry.test.ts"
const edges = "packages/runtime/test/WorkerEdges.test.ts"

/** Mutations of the worker. */
export const worker: ReadonlyArray<Mutation> = [
  {
    id: "worker/shutdown-is-failure",
    file: pipeline,
    find: `case "Shutdown":\n        return { _tag: "Released" }`,
    replace: `case "Shutdown":\n        return timedOut(slot)`,
    breaks: "each deploy fails the runs that it interrupts",
    noticedBy: onMemory("a worker stops with bodies running")
  },
  {
    id: "worker/lost-settles",
    file: pipeline,
    find: `if (slot.stopped === "Lost") return { _tag: "Lost" }\n`,
    replace: "",
    breaks: "a worker settles what it has lost, and says that it failed",
    noticedBy: onMemory("a claim is lost while its body runs")
  },
  {
    id: "worker/poison-limit-off",
    file: pipeline,
    find: `verdict._tag === "Fail" ? failed(slot, lostReason(slot), true) : undefined`,
    replace: "undefined",
    breaks: "a body that kills its process kills all of them, for ever",
    noticedBy: onMemory("a body that kills its process")
  },
  {
    id: "worker/final-is-retried",
    file: pipeline,
    find: "outcome.final\n          ? ",
    replace: "false\n          ? ",
    breaks: "a payload that does not decode is tried again and again",
    noticedBy: onMemory("stored payload that cannot be decoded")
  },
  {
    id: "worker/defect-hidden",
    file: pipeline,
    find: "if (die !== undefined) return defect(slot, die.defect)",
    replace: "",
    breaks: "a defect is reported as an interruption that nobody asked for",
    noticedBy: onMemory("defect (")
  },
  {
    id: "worker/scope-stays-open",
    file: pipeline,
    find: "(exit) => closeScope(slot, exit)\n",
    replace: "(exit) => Exit.succeed(exit)\n",
    breaks: "what a body has acquired is never released",
    noticedBy: unit("packages/runtime/test/Faults.test.ts", "is closed when the attempt ends")
  },
  {
    id: "worker/timeout-not-armed",
    file: loop,
    find: "if (Math.min(slot.deadline, slot.expiry) < Infinity) slot.timer",
    replace: "if (slot.expiry < Infinity) slot.timer",
    breaks: "a body that hangs keeps its slot for ever",
    noticedBy: onMemory("timeout 100 ms → interrupted")
  },
  {
    id: "worker/ignored-interruption-waits",
    file: loop,
    find: "return Effect.andThen(Effect.sleep(Duration.millis(grace)), pipeline.abandon(this, slot))",
    replace: "return Effect.void",
    breaks: "a body that ignores its timeout keeps its slot for ever",
    noticedBy: onMemory("a body that ignores its timeout")
  },
  {
    id: "worker/drain-does-not-renew",
    file: loop,
    find: "for (const slot of this.#active.values()) claims.push(slot.claim)",
    replace: "if (!this.#stopping) { for (const slot of this.#active.values()) claims.push(slot.claim) }",
    breaks: "what a draining worker still runs is run by another one as well",
    noticedBy: onMemory("a body longer than the lease")
  },
  {
    id: "worker/outbox-dropped",
    file: loop,
    find: "this.#outbox = [...settle, ...this.#outbox]\n",
    replace: "",
    breaks: "what ended while the store was away runs again",
    noticedBy: onMemory("settlements meet a store that is away")
  },
  {
    id: "worker/begins-after-lease",
    file: loop,
    find: "if (now - alive >= this.#settings.lease) return this.#release(claim)\n",
    replace: "",
    breaks: "a worker that stood still begins what others have by now",
    noticedBy: onMemory("the reply with claims comes when the lease is over")
  },
  {
    id: "worker/ahead-kept-at-stop",
    file: loop,
    find: "this.#stopping = true\n      this.#releaseBuffer()",
    replace: "this.#stopping = true",
    breaks: "a worker that drains begins what it had claimed ahead",
    noticedBy: unit(edges, "what was claimed ahead waits for a slot")
  },
  {
    id: "worker/one-slot-too-many",
    file: loop,
    find: "while (this.#bodies < this.#settings.concurrency) {",
    replace: "while (this.#bodies <= this.#settings.concurrency) {",
    breaks: "one body more than the concurrency",
    noticedBy: unit(edges, "what was claimed ahead waits for a slot")
  },
  {
    id: "worker/own-clock",
    file: loop,
    find: "this.#offset = reply.now - this.millis()",
    replace: "this.#offset = 0",
    breaks: "ticks of a perpetual task follow the clock of whoever runs it",
    noticedBy: unit("packages/runtime/test/Perpetual.test.ts", "whose worker has another time than the store")
  },
  {
    id: "worker/seeds-by-the-clock-of-the-day",
    file: "packages/runtime/src/internal/worker/start.ts",
    find: "add(now + loop.millis() - begun)",
    replace: "add(now + clock.currentTimeMillisUnsafe() - begun)",
    breaks: "a worker whose clock is set brings a severed chain back early, or after it has missed ticks",
    noticedBy: unit("packages/runtime/test/ClockJump.test.ts", "a chain that somebody has cleared")
  },
  {
    id: "worker/lanes-are-advice",
    file: loop,
    find: "room.set(lane, (room.get(lane) ?? 0) - 1)",
    replace: "room.set(lane, room.get(lane) ?? 0)",
    breaks: "one lane takes the slots of another",
    noticedBy: unit("packages/runtime/test/Worker.test.ts", "have the slots that they were given")
  },
  {
    id: "worker/says-away-each-time",
    file: loop,
    find: "if (this.#saidAway) return Effect.void\n",
    replace: "",
    breaks: "an outage fills the log",
    noticedBy: onMemory("turns fail for a while")
  },
  {
    id: "worker/last-reason-counts",
    file: slot,
    find: "if (this.stopped !== undefined || this.done) return",
    replace: "if (this.done) return",
    breaks: "a body that timed out, and was interrupted by a shutdown before it had ended, is run again",
    noticedBy: unit(edges, "a body that has timed out, and goes on while its worker stops")
  },
  {
    id: "worker/retry-rule-of-another-tag",
    file: retry,
    find: `typeof tag === "string" && Object.hasOwn(retry, tag) ? retry[tag] : undefined`,
    replace: "Object.values(retry)[0]",
    breaks: "an error is retried by the rule of another one",
    noticedBy: onMemory("retry rules by error tag")
  },
  {
    id: "worker/jitter-by-process",
    file: retry,
    find: "(effect, _, seed) => Random.withSeed(effect, seed)",
    replace: "(effect) => effect",
    breaks: "the delay of a retry depends on the process that replays it",
    noticedBy: onMemory("jitter → equal in every process")
  },
  {
    id: "worker/replay-with-one-time",
    file: retry,
    find: "step(at, error)",
    replace: "step(failures.at(-1)!.at, error)",
    breaks: "a schedule that is limited in time never ends",
    noticedBy: unit(retries, "keep a limit on the duration")
  },
  {
    id: "worker/defects-count-as-errors",
    file: retry,
    find: "failures.filter((failure) => !isTaskFailure(failure.error))",
    replace: "failures",
    breaks: "a lost worker takes a retry from the declared errors",
    noticedBy: unit(retries, "take no retry from declared errors")
  },
  {
    id: "worker/endless-delay-retried",
    file: retry,
    find: "return Number.isFinite(after) ? { _tag: tag, after } : fail",
    replace: "return { _tag: tag, after }",
    breaks: "a run waits for ever for its retry",
    noticedBy: unit(retries, "a delay without an end is no retry")
  },
  {
    id: "worker/redelivered-is-missed",
    file: perpetuate,
    find: "|| claim.attempt > 1 || isExtra(slot)",
    replace: "|| isExtra(slot)",
    breaks: "a perpetual run whose worker died is taken for one that was missed",
    noticedBy: unit("packages/runtime/test/Perpetual.test.ts", "and so has one whose worker died")
  },
  {
    id: "worker/ticks-beside-a-cancelled-body",
    file: overlap,
    find: "if (slot.done || slot.stopped !== undefined || slot.replaced) return Effect.void",
    replace: "if (slot.done || slot.replaced) return Effect.void",
    breaks: "runs begin beside a body that was cancelled",
    noticedBy: unit(
      "packages/runtime/test/PerpetualOverlap.test.ts",
      "do not begin beside a body that ignores its cancel"
    )
  }
]
