/**
 * The store in Redis and the model, command by command, in simulated time.
 */
import { describe } from "@effect/vitest"
import { Effect } from "effect"
import { comparison } from "../../runtime/test/contract/comparison.ts"
import * as servers from "./server.ts"
import * as simulated from "./simulated.ts"

const server = servers.shared(servers.start({ config: ["appendonly yes", "appendfsync no"] }))

describe("redis in simulated time", () =>
  comparison(simulated.storeIn(server), undefined, {
    begin: Effect.void,
    advance: (millis) => simulated.advance(server, millis),
    isLazy: true
  }))
