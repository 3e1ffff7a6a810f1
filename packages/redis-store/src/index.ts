/**
 * `@effect-docket/redis-store`: a store in Redis.
 *
 * @since 0.1.0
 */

/**
 * A store in Redis.
 *
 * @since 0.1.0
 */
export * as RedisStore from "./RedisStore.ts"
