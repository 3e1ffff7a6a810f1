/**
 * A task as one worker runs it: handler, codecs, policies and metrics, made once when the worker starts.
 */
import type { Task, TaskFailure } from "@effect-docket/dsl"
import * as Interpreter from "@effect-docket/dsl/Interpreter"
import * as Context from "effect/Context"
import * as LogLevel from "effect/LogLevel"
import * as References from "effect/References"
import type * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import * as telemetry from "../telemetry.ts"
import type { Policies } from "./retry.ts"

/** A task as one worker runs it. */
export interface Program {
  readonly task: Task.Any
  readonly options: Interpreter.Resolved
  readonly codec: Interpreter.Codec
  readonly handler: Interpreter.Implementation["handler"]
  /** The services that a run gets, but for those of the run itself. */
  readonly context: Context.Context<never>
  readonly policies: Policies
  readonly metrics: telemetry.TaskMetrics
  /** The application has a tracer: spans are made for observers only. */
  readonly traced: boolean
  /** Somebody reads debug logs: a line per transition is made for observers only. */
  readonly verbose: boolean
}

/** Prepares a task; its handler is a service of the context. */
export const make = (
  docket: string,
  task: Task.Any,
  context: Context.Context<never>,
  defects: Schedule.Schedule<unknown, TaskFailure.TaskFailure>
): Program => {
  const options = Interpreter.resolved(task)
  const implementation = Context.getUnsafe(context, Interpreter.handlerKey(task._tag))
  // what the handler was built among goes before what the worker was built among
  const services = Context.omit(Scope.Scope)(Context.merge(context, implementation.context)) as Context.Context<never>
  return {
    task,
    options,
    codec: Interpreter.codec(task),
    handler: implementation.handler,
    context: services,
    policies: { retry: options.retry, defects: options.defectRetryPolicy ?? defects },
    metrics: telemetry.make(context, docket, task._tag),
    traced: services.mapUnsafe.has(Tracer.TracerKey),
    verbose: LogLevel.isLessThanOrEqualTo(Context.get(services, References.MinimumLogLevel), "Debug")
  }
}
