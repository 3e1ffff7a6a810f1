import { RedisStore } from "@effect-docket/redis-store"
import { describe } from "@effect/vitest"
import { Effect, Layer } from "effect"
import * as StoreContract from "../../runtime/test/StoreContract.ts"
import { leaks } from "./leaks.ts"
import * as servers from "./server.ts"

// A cluster refuses a script that touches a key of another slot, or one that it was not given on a node that does not have it.
const cluster = servers.shared(servers.cluster)

// these wait more than they work
describe.concurrent("", () =>
  StoreContract.suite("redis cluster", Layer.unwrap(Effect.map(cluster, ({ url }) => RedisStore.layer({ url }))), {
    leaks: leaks(Effect.map(cluster, ({ nodes }) => nodes.slice(0, 3)))
  }))
