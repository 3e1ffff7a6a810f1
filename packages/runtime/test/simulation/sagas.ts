/**
 * Sagas that are simulated in CI: what has been done is undone when the flow fails or is cancelled, newest first, and what
 * has not is not. Nobody replaces, clears or redrives them, so that each is what it was when it was started.
 */
import { Docket, Flow, Retry, Task, TaskFailure, TaskGroup } from "@effect-docket/dsl"
import { Simulation } from "@effect-docket/runtime/testing"
import { Effect, Exit, Random, Schedule, Schema } from "effect"

class Full extends Schema.TaggedError<Full>()("Full", {}) {}

/** A trip, and the place in its order. */
const Place = { trip: Schema.Int, n: Schema.Int }

class Book extends Task.make("Book", {
  payload: Place,
  success: Schema.Struct(Place),
  error: Full,
  retry: { Full: Retry.never }
}) {}
// it is tried for as long as its workers disappear: one that is given up gives nothing back
class Unbook extends Task.make("Unbook", { payload: Place, defectRetryPolicy: Schedule.spaced("1 second") }) {}

/** Its tasks. */
class Trips extends TaskGroup.make(Book, Unbook) {}

const at = (n: number) => ({ trip }: { readonly trip: number }) => ({ trip, n })

const booked = Book.pipe(Flow.compensate(Unbook))

class Trip extends Flow.make(
  "Trip",
  booked.pipe(
    Flow.andThen(Book, at(1)),
    Flow.compensate(Unbook),
    Flow.sleep("500 millis"),
    Flow.andThen(Book, at(2)),
    Flow.compensate(Unbook),
    Flow.andThen(Book, at(3))
  )
) {}
class Tour extends Flow.make(
  "Tour",
  booked.pipe(
    Flow.all({
      east: booked.pipe(Flow.mapInput(at(1))),
      west: booked.pipe(Flow.mapInput(at(2)))
    }),
    Flow.andThen(Book, ({ east }) => ({ trip: east.trip, n: 3 }))
  )
) {}

/** What happened to a trip. */
interface Story {
  readonly isTour: boolean
  /** Places that began to be booked, were booked, and were given back, in their order. */
  readonly begun: Array<number>
  readonly booked: Array<number>
  readonly undone: Array<number>
  /** How it ended, once the producer was told. */
  exit: Exit.Exit<unknown, unknown> | undefined
}

const isLost = (exit: Exit.Exit<unknown, unknown>): boolean =>
  Exit.isFailure(exit) &&
  exit.cause.reasons.some((reason) =>
    reason._tag === "Fail" && reason.error instanceof TaskFailure.TaskFailure && reason.error.reason._tag === "Lost"
  )

/** What is wrong with how a trip went. */
const wrongOf = ({ begun, booked, exit, isTour, undone }: Story): ReadonlyArray<string> => {
  const wrong: Array<string> = []
  const firsts = Array.from(new Set(undone))
  if (firsts.some((n) => !booked.includes(n))) wrong.push("gave back what was not booked")
  // its branches are undone one after the other, in an order that is theirs
  const inOrder = firsts.map((n) => isTour && n === 2 ? 1 : n)
  if (inOrder.some((n, index) => index > 0 && n > inOrder[index - 1]!)) wrong.push("gave back in another order")
  // a flow whose interpreters die again and again ends where it is, and undoes nothing
  if (exit === undefined || isLost(exit)) return wrong
  if (Exit.isSuccess(exit)) return firsts.length === 0 ? wrong : [...wrong, "gave back what it keeps"]
  // what came before something that began was booked, and known to be
  const kept = [0, 1, 2].filter((n) => {
    const later = isTour && n > 0 ? [3] : isTour ? [1, 2, 3] : [1, 2, 3].filter((other) => other > n)
    return later.some((other) => begun.includes(other)) && !undone.includes(n)
  })
  return kept.length === 0 ? wrong : [...wrong, `kept ${kept.join(" and ")}`]
}

const takes = (...millis: ReadonlyArray<number>): Effect.Effect<void> =>
  Effect.flatMap(Random.nextIntBetween(0, millis.length, { halfOpen: true }), (index) => Effect.sleep(millis[index]!))

/** What leaves each trip what it was when it was started: an `Unbook` that is struck, or cancelled, gives nothing back. */
export const disturbances = Simulation.disturbances.filter((name) =>
  !["add", "replace", "cancel", "clear", "redrive", "strike"].includes(name)
)

/** How many trips were seen to end in each way. */
export interface Ends {
  kept: number
  undone: number
}

/** The trips. `ends` adds up over all seeds. */
export const sagas = (ends: Ends): Effect.Effect<Simulation.Workload> =>
  Effect.sync(() => {
    const stories = new Map<number, Story>()

    const start = Effect.gen(function*() {
      const trip = stories.size
      const isTour = yield* Random.nextBoolean
      const story: Story = { isTour, begun: [], booked: [], undone: [], exit: undefined }
      stories.set(trip, story)
      const options = { key: `trip-${trip}` }
      const handle = yield* Docket.start(isTour ? Tour : Trip, { trip, n: 0 }, options)
      story.exit = yield* Effect.exit(handle.await)
    })

    /** A whole trip is cancelled, wherever it is. */
    const cancel = Effect.suspend(() =>
      Effect.flatMap(
        Random.nextIntBetween(0, stories.size, { halfOpen: true }),
        (trip) => Docket.cancel(`trip-${trip}`)
      )
    )

    const handlers = Trips.toLayer({
      Book: Effect.fnUntraced(function*({ n, trip }) {
        const story = stories.get(trip)!
        story.begun.push(n)
        yield* takes(0, 50, 700)
        if (n === 3 ? yield* Random.nextBoolean : (yield* Random.next) < 0.1) return yield* new Full()
        story.booked.push(n)
        return { trip, n }
      }),
      Unbook: ({ n, trip }) =>
        Effect.andThen(
          Effect.sync(() => {
            stories.get(trip)!.undone.push(n)
          }),
          takes(0, 100)
        )
    })

    return Simulation.workload({
      group: Trips,
      flows: [Trip, Tour],
      handlers,
      produce: Effect.gen(function*() {
        if ((yield* Random.next) < 0.3 && stories.size > 0) yield* cancel
        else yield* start
      }),
      verify: Effect.suspend(() => {
        const wrong = Array.from(stories).flatMap(([trip, story]) =>
          wrongOf(story).map((text) => `trip ${trip} ${text}: ${JSON.stringify(story)}`)
        )
        for (const { exit, undone } of stories.values()) {
          if (exit !== undefined && Exit.isSuccess(exit)) ends.kept++
          if (undone.length > 0) ends.undone++
        }
        return wrong.length === 0 ? Effect.void : Effect.fail(wrong.join("\n"))
      })
    })
  })
