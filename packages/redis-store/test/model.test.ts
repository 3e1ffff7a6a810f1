/**
 * The store in Redis and the model, command by command, in simulated time.
 */
import { describe } from "@effect/vitest"
import { Effect } from "effect"
import { comparison } from "../../runtime/test/contract/comparison.ts"
import * as servers from "./server.ts"
import * as simulated from "./simulated.ts"

const server = servers.shared(servers.start({ config: ["appendonly yes", "appendfsync no"] }))

const world = {
  begin: Effect.void,
  advance: (millis: number) => simulated.advance(server, millis),
  isLazy: true
}

describe("redis in simulated time", () => {
  for (const seed of ["docket", "further"]) {
    comparison("redis", simulated.storeIn(server), undefined, { runs: 250, seed }, world)
  }
})
