/**
 * A worker as a process: `worker.ts URL DOCKET NAME LEASE [HOW]`. It prints a line for everything that the test has to know.
 * `HOW` is what becomes of its bodies: `hangs`, the third and later ones never end; `stops`, the first one stops the process.
 */
import { RedisStore } from "@effect-docket/redis-store"
import { DocketEngine, Worker } from "@effect-docket/runtime"
import { Effect, Fiber, Layer, Logger } from "effect"
import { handling, Works } from "./work.ts"

const [url = "", docket = "", name = "", lease = "", how = ""] = process.argv.slice(2)

const print = (line: string): void => {
  process.stdout.write(`${line}\n`)
}

const logger = Logger.make<unknown, void>(({ logLevel, message }) => {
  print(`log ${logLevel}: ${(Array.isArray(message) ? message : [message]).map(String).join(" ")}`)
})

let bodies = 0
const begins = (n: number, attempt: number) =>
  Effect.suspend(() => {
    print(`start ${n} ${attempt}`)
    bodies++
    if (how === "stops" && bodies === 1) process.kill(process.pid, "SIGSTOP")
    return how === "hangs" && bodies > 2 ? Effect.never : Effect.void
  })

const ready = Layer.effectDiscard(Effect.sync(() => print("ready")))

const main = ready.pipe(
  Layer.provideMerge(Worker.layer(Works, { name, concurrency: 5, lease: Number(lease) })),
  Layer.provide(handling(begins)),
  Layer.provide(DocketEngine.layer({ name: docket })),
  Layer.provide(RedisStore.layer({ url })),
  Layer.provide(Logger.layer([logger]))
)

const fiber = Effect.runFork(Layer.launch(main))
process.once("SIGTERM", () => Effect.runFork(Fiber.interrupt(fiber)))
