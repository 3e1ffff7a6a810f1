/**
 * The contract on a single server, as a user who may do nothing but what the documentation grants.
 */
import { RedisStore } from "@effect-docket/redis-store"
import { describe } from "@effect/vitest"
import { Effect, Layer } from "effect"
import * as StoreContract from "../../runtime/test/StoreContract.ts"
import { rule } from "./acl.ts"
import { leaks } from "./leaks.ts"
import * as servers from "./server.ts"

const server = servers.shared(servers.start({ config: [`user docket on >secret ${rule} ~other:* &other:*`] })) // one test has another prefix

const store = Layer.unwrap(
  Effect.map(server, ({ port }) => RedisStore.layer({ url: `redis://docket:secret@127.0.0.1:${port}` }))
)

// these wait more than they work
describe.concurrent("", () => StoreContract.suite("redis", store, { leaks: leaks(Effect.map(server, (one) => [one])) }))
