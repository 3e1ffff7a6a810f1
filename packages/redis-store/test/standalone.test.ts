/**
 * The contract on a single server.
 */
import { RedisStore } from "@effect-docket/redis-store"
import { describe } from "@effect/vitest"
import { Effect, Layer } from "effect"
import * as StoreContract from "../../runtime/test/StoreContract.ts"
import { leaks } from "./leaks.ts"
import * as servers from "./server.ts"

const server = servers.shared(servers.start())

const store = Layer.unwrap(Effect.map(server, ({ url }) => RedisStore.layer({ url })))

// these wait more than they work
describe.concurrent("", () => StoreContract.suite("redis", store, { leaks: leaks(Effect.map(server, (one) => [one])) }))
