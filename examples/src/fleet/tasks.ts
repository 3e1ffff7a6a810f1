/**
 * What the processes of a fleet share: the task, and the lines by which they tell the main process how they are getting on.
 */
import { Task, TaskGroup } from "@effect-docket/dsl"
import { RedisStore } from "@effect-docket/redis-store"
import { DocketEngine } from "@effect-docket/runtime"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Config, Console, Effect, Layer, References, Schema, Stdio, Stream } from "effect"

/** A run of a fleet: the `n`th of a producer. */
export class Work extends Task.make("Work", {
  payload: { fleet: Schema.String, producer: Schema.Int, n: Schema.Int },
  success: Schema.Struct({ worker: Schema.String, attempt: Schema.Int }),
  key: ["fleet", "producer", "n"],
  // read by the main process when all is done
  retention: "15 minutes"
}) {}

export class Works extends TaskGroup.make(Work) {}

/** `total`: how many runs this process has added or done. `late`: by how many milliseconds those since the last line began late. */
export const Line = Schema.fromJsonString(
  Schema.Struct({ total: Schema.Int, late: Schema.Array(Schema.Finite) })
)
export type Line = typeof Line.Type

/** Tells the main process. */
export const tell = (line: Line): Effect.Effect<void> => Console.log(JSON.stringify(line))

/** The docket of all fleets, on the server that the main process names. A URL in the arguments would be seen by everybody. */
export const storeVariable = "FLEET_STORE"
const layerStore = RedisStore.layerConfig({ url: Config.Redacted(storeVariable) })

/** One docket for all fleets, so that nothing is left of them but what it is. */
export const layerDocket = DocketEngine.layer({ name: "fleet" })

const layerChild = Works.client.pipe(Layer.provideMerge(layerDocket), Layer.provide(layerStore))

/** Until the main process is gone, however it went: then its end of the pipe is closed. */
const untilAlone = Effect.gen(function*() {
  process.stdout.on("error", () => {}) // nobody reads it any more
  yield* Effect.ignore(Stream.runDrain((yield* Stdio.Stdio).stdin))
})

/** Runs a process of a fleet. It ends with the main process, drained. */
export const runChild = <E extends { readonly message: string }>(
  program: Effect.Effect<void, E, Layer.Success<typeof layerChild>>
): void =>
  Effect.provide(program, layerChild).pipe(
    Effect.raceFirst(untilAlone),
    Effect.tapError(({ message }) => Console.error(message)),
    // an open pipe would keep the process
    Effect.ensuring(Effect.sync(() => process.stdin.destroy())),
    Effect.provide(NodeServices.layer),
    // stdout is for lines, and the main process says what is to be said
    Effect.provideService(References.MinimumLogLevel, "None"),
    NodeRuntime.runMain({ disableErrorReporting: true })
  )
