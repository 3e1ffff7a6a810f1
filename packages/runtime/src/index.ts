/**
 * `@effect-docket/runtime`: the engine, workers, and the in-memory store.
 *
 * @since 0.1.0
 */

/**
 * Turns a store into a docket.
 *
 * @since 0.1.0
 */
export * as DocketEngine from "./DocketEngine.ts"

/**
 * Runs tasks and flows.
 *
 * @since 0.1.0
 */
export * as Worker from "./Worker.ts"

/**
 * The seam between the engine and its stores.
 *
 * @since 0.1.0
 */
export * as DocketStore from "./DocketStore.ts"

/**
 * A store in the memory of this process.
 *
 * @since 0.1.0
 */
export * as MemoryStore from "./MemoryStore.ts"
