/**
 * What every store promises, as one suite: `StoreContract.suite("redis", layer)`.
 *
 * Tests are named like the lines of the list of behaviours that they hold. Some look at the store alone, through the seam
 * and as a worker that never renews would; the others see what users see.
 */
import { describe } from "@effect/vitest"
import type { Layer } from "effect"
import type { DocketStore } from "../src/DocketStore.ts"
import { adding } from "./contract/adding.ts"
import { agenda } from "./contract/agenda.ts"
import { cancelling } from "./contract/cancelling.ts"
import { comparison } from "./contract/comparison.ts"
import { delivery } from "./contract/delivery.ts"
import { failures } from "./contract/failures.ts"
import { flows } from "./contract/flows.ts"
import { gateCases } from "./contract/gateCases.ts"
import { gates } from "./contract/gates.ts"
import * as kit from "./contract/kit.ts"
import { known } from "./contract/known.ts"
import { operating } from "./contract/operating.ts"
import { outages } from "./contract/outages.ts"
import { perpetual } from "./contract/perpetual.ts"
import { state } from "./contract/state.ts"
import { strikes } from "./contract/strikes.ts"

/** Options of a suite. */
export type Options = kit.Options

/** Registers the suite for a store. The layer is built anew for each test. */
export const suite = (name: string, layer: Layer.Layer<DocketStore, unknown>, options?: Options): void => {
  const made = kit.make(layer, options)
  describe(`store contract: ${name}`, () => {
    describe("adding, keys, time", () => adding(made))
    describe("cancelling", () => cancelling(made))
    describe("retries, timeouts, failures", () => failures(made))
    describe("delivery, leases, workers", () => delivery(made))
    describe("when the store is away", () => outages(made))
    describe("perpetual and cron", () => perpetual(made))
    describe("state, results, progress, events", () => state(made))
    describe("strikes and pauses", () => strikes(made))
    describe("gates", () => {
      gates(made)
      gateCases(made)
    })
    describe("agenda", () => agenda(made))
    describe("flows", () => flows(made))
    describe("operating", () => operating(made))
    describe("known failures", () => known(made))
    if (!made.isLive) describe("the model", () => comparison(name, layer, options))
  })
}
