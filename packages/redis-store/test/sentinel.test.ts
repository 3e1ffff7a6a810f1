import { RedisStore } from "@effect-docket/redis-store"
import { describe } from "@effect/vitest"
import { Effect, Layer } from "effect"
import * as StoreContract from "../../runtime/test/StoreContract.ts"
import { leaks } from "./leaks.ts"
import * as servers from "./server.ts"

const sentinel = servers.shared(servers.sentinel)

// these wait more than they work
describe.concurrent("", () =>
  StoreContract.suite("redis sentinel", Layer.unwrap(Effect.map(sentinel, ({ url }) => RedisStore.layer({ url }))), {
    leaks: leaks(Effect.map(Effect.flatMap(sentinel, ({ master }) => master), (master) => [master]))
  }))
