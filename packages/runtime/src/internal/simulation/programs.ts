/**
 * What each program of a simulation is made of: a process with chance and a log of its own, and a docket in a store; and how
 * the trace speaks of how it went.
 */
import type { Docket } from "@effect-docket/dsl"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as DocketEngine from "../../DocketEngine.ts"
import { DocketStore, type StoredDocket } from "../../DocketStore.ts"
import { Chance } from "./chance.ts"
import { type Machine, Process } from "./machine.ts"
import type { Trace } from "./trace.ts"

/** The docket that is simulated. */
export const docketName = "simulation"

const textOf = (part: unknown): string => typeof part === "string" ? part : part instanceof Error ? part.message : ""

/** A process that logs to the trace. */
export const processOf = (seed: number, machine: Machine, trace: Trace, name: string, skew: number): Process => {
  const logger = Logger.make<unknown, void>(({ logLevel, message }) => {
    const text = (Array.isArray(message) ? message : [message]).map(textOf).join(" ").trim()
    trace.add(name, `${logLevel}: ${text}`)
  })
  return new Process(machine, { name, skew, chance: new Chance(seed, `process ${name}`), logger })
}

/** The docket in a store, for those who work in it or add to it. */
export const engineOf = <R>(
  client: Layer.Layer<R, never, Docket.Docket>,
  store: StoredDocket
) =>
  Layer.provideMerge(
    client,
    DocketEngine.layer({ name: docketName }).pipe(
      Layer.provide(Layer.succeed(DocketStore, { docket: () => Effect.succeed(store) })),
      // its name is not empty
      Layer.orDie
    )
  )

/** Why a program failed. */
export const failureOf = (exit: Exit.Exit<unknown, unknown>): string => {
  const reason = Exit.isFailure(exit) ? exit.cause.reasons[0] : undefined
  return textOf(reason !== undefined && "error" in reason ? reason.error : reason)
}

/** How a body ended. */
export const endOf = (exit: Exit.Exit<unknown, unknown>): string =>
  Exit.isSuccess(exit) ? "Success" : exit.cause.reasons.map(({ _tag }) => _tag).join(" ")
