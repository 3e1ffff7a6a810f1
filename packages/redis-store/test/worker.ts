/**
 * A worker as a process: `worker.ts URL DOCKET NAME LEASE`. It prints a line for everything that the test has to know.
 */
import { RedisStore } from "@effect-docket/redis-store"
import { DocketEngine, Worker } from "@effect-docket/runtime"
import { Effect, Fiber, Layer, Logger } from "effect"
import { handling, Works } from "./work.ts"

const [url = "", docket = "", name = "", lease = ""] = process.argv.slice(2)

const print = (line: string): void => {
  process.stdout.write(`${line}\n`)
}

const logger = Logger.make<unknown, void>(({ logLevel, message }) => {
  print(`log ${logLevel}: ${(Array.isArray(message) ? message : [message]).map(String).join(" ")}`)
})

const ready = Layer.effectDiscard(Effect.sync(() => print("ready")))

const main = ready.pipe(
  Layer.provideMerge(Worker.layer(Works, { name, concurrency: 5, lease: Number(lease) })),
  Layer.provide(handling((n, attempt) => Effect.sync(() => print(`start ${n} ${attempt}`)))),
  Layer.provide(DocketEngine.layer({ name: docket })),
  Layer.provide(RedisStore.layer({ url })),
  Layer.provide(Logger.layer([logger]))
)

const fiber = Effect.runFork(Layer.launch(main))
process.once("SIGTERM", () => Effect.runFork(Fiber.interrupt(fiber)))
