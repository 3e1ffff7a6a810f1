/**
 * Everything that is broken on purpose.
 */
import { definitions } from "./definitions.ts"
import { flows } from "./flows.ts"
import { memory } from "./memory.ts"
import { type Mutation } from "./mutation.ts"
import { redis } from "./redis.ts"
import { simulated } from "./simulation.ts"
import { worker } from "./worker.ts"

/** All mutations, those that are noticed fast first. */
export const mutations: ReadonlyArray<Mutation> = [
  ...memory,
  ...worker,
  ...definitions,
  ...flows,
  ...simulated,
  ...redis
]
