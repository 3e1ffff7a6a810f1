/**
 * How the implementation of a task travels from `toLayer` to the worker: as a service under the task's tag, with the
 * services that the handler was built among.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import type * as Task from "../Task.ts"

/** What `toLayer` stores: the function, and the services of the place where the layer was built. */
export interface Implementation {
  /** Its services are those of `context`, and those that the worker adds. */
  readonly handler: (payload: unknown) => Effect.Effect<unknown, unknown>
  readonly context: Context.Context<never>
}

/** The service key of the implementation of a task. */
export const key = <const Tag extends string>(tag: Tag): Context.Key<Task.Handler<Tag>, Implementation> =>
  Context.Service<Task.Handler<Tag>, Implementation>(`@effect-docket/dsl/Task/Handler/${tag}`)

/** An effect that builds is run, anything else is built: the types of `toLayer` leave no third possibility. */
const built = (build: unknown): Effect.Effect<unknown, unknown> =>
  Effect.isEffect(build) ? build as unknown as Effect.Effect<unknown, unknown> : Effect.succeed(build) // it finds its services around it

/** Builds the handlers of some tags: `build` is what `pick` makes a record of, or an effect of it. */
export const handlers = (
  tags: ReadonlyArray<string>,
  pick: (built: unknown) => Readonly<Record<string, unknown>>,
  build: unknown
): Effect.Effect<Context.Context<never>, unknown, Scope.Scope> =>
  Effect.contextWith((context: Context.Context<Scope.Scope>) =>
    Effect.map(
      built(build),
      (built) => {
        const record = pick(built)
        let services = Context.empty()
        for (const tag of tags) {
          const implementation: Implementation = {
            handler: record[tag] as Implementation["handler"], // one handler per task, checked by `HandlersFrom`
            // the scope of the layer is not the scope of a run: the worker provides that one
            context: Context.omit(Scope.Scope)(context) as Context.Context<never>
          }
          services = Context.add(services, key(tag), implementation) as Context.Context<never> // keyed by tag
        }
        return services
      }
    )
  )
