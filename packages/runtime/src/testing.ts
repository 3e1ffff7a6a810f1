/**
 * `@effect-docket/runtime/testing`: dockets under `TestClock`.
 *
 * @since 0.1.0
 */

/**
 * A docket in memory, driven by `TestClock`.
 *
 * @since 0.1.0
 */
export * as DocketTest from "./DocketTest.ts"

/**
 * Deterministic simulation: workers, producers and a store in one process, with everything going wrong that can.
 *
 * @since 0.1.0
 */
export * as Simulation from "./Simulation.ts"

/**
 * Whether what is stored can still be read, found out before a deploy.
 *
 * @since 0.1.0
 */
export * as SchemaLock from "./SchemaLock.ts"
