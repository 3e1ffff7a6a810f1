/**
 * The store in memory and the model, by thousands of sequences; the contract of each store compares it by some hundreds.
 */
import { MemoryStore } from "@effect-docket/runtime"
import { describe, vi } from "@effect/vitest"
import { comparison } from "./contract/comparison.ts"

// they work for half a minute, side by side
vi.setConfig({ testTimeout: 1_800_000 })

describe("memory in simulated time", () => {
  for (const seed of ["one", "two", "three"]) comparison("memory", MemoryStore.layer, undefined, { runs: 2000, seed })
})
