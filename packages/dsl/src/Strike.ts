/**
 * Conditions on payload fields, for `Docket.strike`. They hold for the JSON form of a field, which is what is stored.
 *
 * @since 0.1.0
 */
import type { EncodedCondition } from "./internal/wire.ts"

const TypeId = "~@effect-docket/dsl/Strike"

/**
 * A condition other than equality.
 *
 * @category models
 * @since 0.1.0
 */
export interface Condition<out V> {
  readonly "~@effect-docket/dsl/Strike": V
}

/** What a condition is made of. */
interface Parts {
  readonly operator: EncodedCondition["operator"]
  readonly values: ReadonlyArray<unknown>
}

/**
 * A value the field has to equal, or a condition, per field. All of them have to hold.
 *
 * @category models
 * @since 0.1.0
 */
export type Where<P> = P extends object ? { readonly [K in keyof P]?: P[K] | Condition<P[K]> } : never

// the type of the value is a phantom; the property holds the parts, which only this package reads
const make = <V>(operator: Parts["operator"], values: ReadonlyArray<V>): Condition<V> =>
  ({ [TypeId]: { operator, values } }) as unknown as Condition<V>

/** @internal */
export const parts = (u: unknown): Parts =>
  typeof u === "object" && u !== null && Object.hasOwn(u, TypeId)
    ? (u as Readonly<Record<typeof TypeId, Parts>>)[TypeId] // made by `make`
    : { operator: "equals", values: [u] }

/**
 * The field is greater than `value`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const greaterThan = <V extends string | number | bigint>(value: V): Condition<V> => make("greaterThan", [value])
/**
 * The field is less than `value`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const lessThan = <V extends string | number | bigint>(value: V): Condition<V> => make("lessThan", [value])
/**
 * The field is greater than `value`, or equals it.
 *
 * @category constructors
 * @since 0.1.0
 */
export const greaterThanOrEqualTo = <V extends string | number | bigint>(value: V): Condition<V> =>
  make("greaterThanOrEqualTo", [value])
/**
 * The field is less than `value`, or equals it.
 *
 * @category constructors
 * @since 0.1.0
 */
export const lessThanOrEqualTo = <V extends string | number | bigint>(value: V): Condition<V> =>
  make("lessThanOrEqualTo", [value])
/**
 * The field lies between both values, ends included.
 *
 * @category constructors
 * @since 0.1.0
 */
export const between = <V extends string | number | bigint>(minimum: V, maximum: V): Condition<V> =>
  make("between", [minimum, maximum])
/**
 * The field differs from `value`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const not = <V>(value: V): Condition<V> => make("not", [value])
/**
 * The field is one of the values.
 *
 * @category constructors
 * @since 0.1.0
 */
export const oneOf = <V>(values: ReadonlyArray<V>): Condition<V> => make("oneOf", values)
