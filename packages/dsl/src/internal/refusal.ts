/**
 * Why an addition is refused, as the reason of an error.
 */
import { Limited, type Reason, Struck } from "../DocketError.ts"
import type { EncodedRefusal } from "./wire.ts"

/** The reason of an error about an addition with this key. */
export const reasonOf = (key: string, refusal: EncodedRefusal): Reason =>
  refusal._tag === "Limited"
    ? new Limited({ key, by: refusal.by })
    : new Struck({
      key,
      reason: refusal.reason,
      ...refusal.author !== undefined && { author: refusal.author }
    })
