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
