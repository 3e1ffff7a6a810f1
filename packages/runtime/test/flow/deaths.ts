/**
 * Random flows of which one write goes wrong, held against a direct evaluation: the same end, and the same bodies but for
 * those that are repeated. Their bodies take no time, and no limit of theirs passes: a worker that dies costs time, and what
 * depends on that has more than one right end.
 */
import { Docket, type Execution, type Flow } from "@effect-docket/dsl"
import { Effect, Exit, type Layer, Option } from "effect"
import { type Fault, play } from "./crash.ts"
import { bodyText, defectRetryPolicy, flowOf, handlers, Tasks, textOf, timeless, type Value } from "./definition.ts"
import { evaluate } from "./FlowModel.ts"
import { bodiesOf, endText } from "./kit.ts"
import { long, type Spec } from "./spec.ts"

/** Whether the end of a flow does not depend on how long anything takes. */
export const isTimeless = (spec: Spec): boolean =>
  spec.instant &&
  Array.from(JSON.stringify(spec).matchAll(/"limit":(\d+)/g)).every(([, limit]) => Number(limit) >= long)

/** Runs a flow, with a fault at its n-th write; and evaluates it. */
export const playWith = Effect.fnUntraced(function*(spec: Spec, fault: Fault | undefined, n: number) {
  const bodies = bodiesOf(spec, true)
  const begun = new Set<string>()
  const live = handlers(() => bodies, (_flow, task, value, attempt) =>
    Effect.sync(() => {
      if (attempt > 0) begun.add(bodyText(0, task, value, 1))
    }))
  const flow = flowOf(spec) as unknown as Flow.Named<string, Value, unknown, unknown> // the client has the permissions
  const produce = Effect.gen(function*() {
    const execution: Execution.Execution<unknown, unknown, unknown> = yield* Docket.start(
      flow,
      { ...spec.input, id: spec.base },
      { key: spec.name }
    )
    return endText(yield* Effect.exit(execution.await))
  })
  const subject = {
    group: Tasks,
    flows: [flow],
    handlers: live as unknown as Layer.Layer<never>, // a worker gives them what they need
    key: spec.name,
    client: Tasks.client as unknown as Layer.Layer<never, never, Docket.Docket>, // permissions are found by key
    defectRetryPolicy
  }
  const { exit, left, writes } = yield* play(subject, (write) => write === n ? fault : undefined, produce)
  const { log, outcome } = evaluate(spec, bodies, 0)
  const ends = outcome._tag === "Done"
    ? `value ${textOf(outcome.value)}`
    : `error ${outcome._tag === "Failed" ? textOf(outcome.error) : "\"Cancelled\""}`
  const expected = Array.from(new Set(log.bodies.map((body) => body.slice(12).replace(/ attempt \d+$/, ""))))
  return {
    writes,
    actual: {
      end: Exit.isSuccess(exit) ? timeless(exit.value) : String(Option.getOrUndefined(Exit.getCause(exit))),
      bodies: Array.from(begun, (body) => body.slice(12)).toSorted(),
      left
    },
    expected: { end: timeless(ends), bodies: expected.toSorted(), left: [] }
  }
})
