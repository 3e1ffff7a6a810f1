/**
 * Agendas: what a plan says is what the store holds, whatever happens on the way.
 */
import { Agenda, Docket, DocketError, Strike, Task, TaskGroup } from "@effect-docket/dsl"
import { assert } from "@effect/vitest"
import { Clock, DateTime, Duration, Effect, Layer, Random, Schema, Stream } from "effect"
import type { StoredDocket } from "../../src/DocketStore.ts"
import { type Kit, live, now, Work, wrapped } from "./kit.ts"

class Keyed extends Task.make("Keyed", { payload: { n: Schema.Int }, key: ["n"] }) {}
class Note extends Task.make("Note", { payload: Schema.NonEmptyString }) {}
class Tick extends Task.make("Tick") {}
class Cool extends Task.make("Cool", {
  payload: { user: Schema.String },
  cooldown: { for: "1 minute", key: ["user"] }
}) {}
class All extends TaskGroup.make(Work, Keyed, Note, Tick) {}

const hour = 3_600_000
const range = (n: number) => Array.from({ length: n }, (_, n) => ({ n }))
const works = (n: number) => Agenda.fromIterable(Work, range(n))
const keyed = (n: number) => Agenda.fromIterable(Keyed, range(n))

/** Where something lies. */
interface Place {
  readonly task: string
  readonly key: string
  readonly at: number
}

const placeOf = (
  { at, key, task }: { readonly task: string; readonly key: string; readonly at: DateTime.Utc }
): Place => ({
  task,
  key,
  at: DateTime.toEpochMillis(at)
})

/** What the store holds, by time and key. */
const held = Effect.map(
  Stream.runCollect(Docket.snapshot),
  (runs) => sorted(runs.map(({ key, scheduledAt, task }) => placeOf({ task, key, at: scheduledAt })))
)

const sorted = (places: ReadonlyArray<Place>) => places.toSorted((a, b) => a.at - b.at || (a.key < b.key ? -1 : 1))

const placesOf = (slots: Iterable<Parameters<typeof placeOf>[0]>) => sorted(Array.from(slots, placeOf))

/** Fails unless the store holds the plan and nothing else; empties it. */
const holds = Effect.fnUntraced(function*(slots: Iterable<Parameters<typeof placeOf>[0]>) {
  const places = placesOf(slots)
  assert.deepStrictEqual(yield* held, places)
  assert.strictEqual(yield* Docket.clear, places.length)
})

const empty = Effect.map(held, (places) => assert.deepStrictEqual(places, []))

type Answer = "ok" | "away" | "lost"

const away = new DocketError.DocketError({
  operation: "add",
  reason: new DocketError.StoreUnavailable({ cause: new Error("connection refused") })
})

/** A docket whose additions are answered as told: written and confirmed, not written, or written and not confirmed. */
const faulty = () => {
  const answers: Array<Answer> = []
  const sizes: Array<number> = []
  const wrap = (store: StoredDocket): StoredDocket => ({
    ...store,
    add: (additions, options) =>
      Effect.suspend(() => {
        const answer = answers.shift() ?? "ok"
        sizes.push(additions.length)
        if (answer === "away") return away
        const added = store.add(additions, options)
        return answer === "lost" ? Effect.andThen(added, away) : added
      })
  })
  const layer = All.client.pipe(Layer.provideMerge(Agenda.layer), Layer.provideMerge(wrapped(wrap)))
  return { answers, sizes, layer }
}

/** The tests of this part. */
export const agenda = ({ drain, test }: Kit): void => {
  const offsets: ReadonlyArray<readonly [n: number, seconds: number, offsets: ReadonlyArray<number>]> = [
    [0, 600, []],
    [1, 600, [300]],
    [2, 1200, [0, 1200]],
    [3, 60, [0, 30, 60]],
    [4, 90, [0, 30, 60, 90]],
    [5, 600, [0, 150, 300, 450, 600]],
    [100, 3000, Array.from({ length: 100 }, (_, i) => Math.round(i * 3_000_000 / 99) / 1000)]
  ]
  test("n runs over a window → the store holds them at start + i·over/(n−1), one at the midpoint, none for none", () =>
    Effect.gen(function*() {
      const start = (yield* now) + hour
      for (const [n, seconds, expected] of offsets) {
        const report = yield* Agenda.scatter(works(n), { start, over: Duration.seconds(seconds) })
        assert.deepStrictEqual(report.scheduled.map(({ at }) => (DateTime.toEpochMillis(at) - start) / 1000), expected)
        yield* holds(report.scheduled)
      }
    }).pipe(Effect.provide(All.client)))

  test("`over` zero or negative → a typed error, and nothing is written", () =>
    Effect.gen(function*() {
      for (const over of [0, -1]) {
        for (const batch of [works(3), Agenda.empty]) {
          const error = yield* Effect.flip(Agenda.plan(batch, { over }))
          assert(error._tag === "DocketError" && error.reason._tag === "InvalidOption")
          assert.strictEqual(error.reason.option, "over")
          assert.strictEqual((yield* Effect.exit(Agenda.scatter(batch, { over })))._tag, "Failure")
        }
      }
      yield* empty
    }).pipe(Effect.provide(All.client)))

  test("jitter → near its base and inside the window, as the store holds it; a seed gives the same plan again", () =>
    Effect.gen(function*() {
      const start = (yield* now) + hour
      const options = { start, over: "10 minutes", jitter: "1 minute" } as const
      const plan = yield* Random.withSeed(Agenda.plan(works(200), options), "seed")
      const report = yield* Random.withSeed(Agenda.scatter(works(200), options), "seed")
      const times = report.scheduled.map(({ at }) => DateTime.toEpochMillis(at) - start)
      assert.deepStrictEqual(times, plan.slots.map(({ at }) => DateTime.toEpochMillis(at) - start))
      times.forEach((time, i) => {
        assert.isTrue(time >= 0 && time <= 600_000)
        assert.isAtMost(Math.abs(time - i * 600_000 / 199), 60_001)
      })
      assert.isAtMost(times.filter((time) => time === 0 || time === 600_000).length, 2)
      yield* holds(report.scheduled)
    }).pipe(Effect.provide(All.client)))

  test("plan → nothing is written; resume → its slots, with their keys and times", () =>
    Effect.gen(function*() {
      const batch = Agenda.empty.pipe(
        Agenda.addAll(Work, range(3)),
        Agenda.add(Note, "a"),
        Agenda.add(Tick),
        Agenda.addAll(Keyed, range(3))
      )
      const plan = yield* Agenda.plan(batch, { start: (yield* now) + hour, over: "1 hour" })
      yield* empty
      const report = yield* Agenda.resume(plan)
      assert.deepStrictEqual(report, { scheduled: plan.slots, existing: [], struck: [], limited: [] })
      assert.deepStrictEqual((yield* Agenda.resume(plan)).existing, plan.slots)
      yield* holds(plan.slots)
    }).pipe(Effect.provide(All.client)))

  test("a window that has begun, mixed tasks → what is past runs now, the rest not before it is due, each task in its order", () => {
    const ran: Array<readonly [task: string, payload: unknown, at: number]> = []
    const note = (task: string) => (payload: unknown) =>
      Effect.map(Clock.currentTimeMillis, (at) => {
        ran.push([task, payload, at])
        return 0
      })
    return Effect.gen(function*() {
      const start = (yield* now) - 200
      const batch = range(5).reduce<Agenda.Batch<typeof Work | typeof Note>>(
        (batch, { n }) => batch.pipe(Agenda.add(Work, { n }), Agenda.add(Note, `note ${n}`)),
        Agenda.empty
      )
      const { scheduled } = yield* Agenda.scatter(batch, { start, over: 400 })
      assert.deepStrictEqual(scheduled.map(({ task }) => task), range(5).flatMap(() => ["Work", "Note"]))
      yield* drain(TaskGroup.make(Work, Note), { concurrency: 1 })
      const of = (task: string) => ran.filter(([name]) => name === task).map(([, payload]) => payload)
      assert.deepStrictEqual(of("Work"), range(5))
      assert.deepStrictEqual(of("Note"), range(5).map(({ n }) => `note ${n}`))
      for (const { at, payload } of scheduled) {
        const startedAt = ran.find(([, one]) => JSON.stringify(one) === JSON.stringify(payload))![2]
        assert.isAtLeast(startedAt, DateTime.toEpochMillis(at))
      }
    }).pipe(Effect.provide(Layer.merge(live(Work, note("Work")), live(Note, note("Note")))))
  })

  test("one value scattered twice → two independent batches; with explicit keys the second finds them all Existing", () =>
    Effect.gen(function*() {
      const start = (yield* now) + hour
      const batch = Agenda.concat(works(3), keyed(2)).pipe(Agenda.add(Note, "a", { key: "given" }))
      const first = yield* Agenda.scatter(batch, { start, over: "1 hour" })
      const second = yield* Agenda.scatter(batch, { start: start + hour, over: "1 hour" })
      assert.deepStrictEqual(second.scheduled.map(({ task }) => task), ["Work", "Work", "Work"])
      assert.deepStrictEqual(second.existing.map(({ key }) => key), ["Keyed/0", "Keyed/1", "given"])
      yield* holds([...first.scheduled, ...second.scheduled])
    }).pipe(Effect.provide(All.client)))

  test("an item that does not encode → known from the plan, and an atomic scatter writes nothing; a loose one writes the others", () =>
    Effect.gen(function*() {
      const batch = Agenda.fromIterable(Note, ["a", "", "c"])
      const options = { start: (yield* now) + hour, over: "1 hour" } as const
      const atomic = Agenda.scatter(batch, { ...options, atomic: true })
      for (const rejecting of [Effect.asVoid(Agenda.plan(batch, options)), Effect.asVoid(atomic)]) {
        const error = yield* Effect.flip(rejecting)
        assert(error._tag === "ScatterRejected")
        assert.deepStrictEqual(error.rejected.map(({ reason, slot }) => [slot.index, reason._tag]), [[
          1,
          "InvalidPayload"
        ]])
      }
      yield* empty
      const partial = yield* Effect.flip(Agenda.scatter(batch, options))
      assert.deepStrictEqual([partial.failed.map(({ slot }) => slot.index), partial.rest.length], [[1], 0])
      yield* holds(partial.scheduled)
    }).pipe(Effect.provide(All.client)))

  const stopping = { n: Strike.greaterThan(0) }

  test("an item that is struck → known before anything is written: a loose scatter leaves it out, an atomic one writes nothing", () => {
    const { layer, sizes } = faulty()
    return Effect.gen(function*() {
      yield* Docket.strike(Keyed, { where: stopping, reason: "no", author: "grace" })
      const batch = Agenda.concat(works(2), keyed(3))
      const options = { start: (yield* now) + hour, over: "1 hour" } as const
      const { message, rejected } = yield* Effect.flip(Agenda.scatter(batch, { ...options, atomic: true }))
      assert.deepStrictEqual(rejected.map(({ reason, slot }) => [slot.index, slot.key, reason._tag]), [
        [3, "Keyed/1", "Struck"],
        [4, "Keyed/2", "Struck"]
      ])
      assert.include(message, "key \"Keyed/1\" is struck by grace: no")
      assert.deepStrictEqual(sizes, [], "nothing was sent")
      yield* empty
      const report = yield* Agenda.scatter(batch, options)
      assert.deepStrictEqual(report.struck.map(({ index, key }) => [index, key]), [[3, "Keyed/1"], [4, "Keyed/2"]])
      assert.deepStrictEqual(sizes, [3])
      yield* holds(report.scheduled)
      yield* Docket.restore(Keyed, { where: stopping })
      assert.strictEqual((yield* Agenda.scatter(batch, { ...options, atomic: true })).scheduled.length, 5)
      yield* Docket.clear
    }).pipe(Effect.provide(layer))
  })

  test("struck items of a scatter that the store fails → struck, not among what is left to repeat", () => {
    const { answers, layer } = faulty()
    return Effect.gen(function*() {
      yield* Docket.strike(Keyed, { where: { n: Strike.greaterThan(500) } })
      answers.push("away")
      const partial = yield* Effect.flip(Agenda.scatter(keyed(600), { start: (yield* now) + hour, over: "1 hour" }))
      assert.deepStrictEqual(partial.struck.map(({ index }) => index), range(600).slice(501).map(({ n }) => n))
      assert.deepStrictEqual([partial.scheduled.length, partial.failed.length, partial.rest.length], [0, 501, 501])
      yield* empty
      const report = yield* Agenda.resume(partial.rest)
      assert.deepStrictEqual([report.scheduled.length, report.struck.length], [501, 0])
      yield* holds(report.scheduled)
      yield* Docket.restore(Keyed, { where: { n: Strike.greaterThan(500) } })
    }).pipe(Effect.provide(layer))
  })

  test("struck between the check and the write → an atomic scatter writes nothing and names it, a loose one writes the others", () => {
    const layer = All.client.pipe(
      Layer.provideMerge(Agenda.layer),
      Layer.provideMerge(wrapped((store): StoredDocket => ({
        ...store,
        refused: (additions) =>
          Effect.tap(store.refused(additions), () =>
            store.strike({
              task: "Keyed",
              where: [{ field: "n", operator: "equals", values: [1], bigint: false }],
              reason: "late",
              until: undefined
            }))
      })))
    )
    return Effect.gen(function*() {
      const options = { start: (yield* now) + hour, over: "1 hour" } as const
      const { rejected } = yield* Effect.flip(Agenda.scatter(keyed(3), { ...options, atomic: true }))
      assert.deepStrictEqual(rejected.map(({ reason, slot }) => [slot.index, reason._tag]), [[1, "Struck"]])
      yield* empty
      yield* Docket.restore(Keyed, { where: { n: 1 } })
      const report = yield* Agenda.scatter(keyed(3), options)
      assert.deepStrictEqual(report.struck.map(({ index }) => index), [1])
      yield* holds(report.scheduled)
      yield* Docket.restore(Keyed, { where: { n: 1 } })
    }).pipe(Effect.provide(layer))
  })

  test("a struck item whose key is taken → existing, also one that was in doubt and has run since", () => {
    const { answers, layer } = faulty()
    return Effect.gen(function*() {
      const plan = yield* Agenda.plan(works(2), { start: (yield* now) - hour, over: 1000 })
      answers.push("lost")
      const partial = yield* Effect.flip(Agenda.resume(plan))
      assert.strictEqual(partial.rest.length, 2)
      yield* Docket.strike(Work)
      const atomically = Agenda.Agenda.use((agenda) => agenda.write(plan, { atomic: true }))
      assert.deepStrictEqual((yield* atomically).existing.length, 2)
      yield* Docket.restore(Work)
      yield* drain(TaskGroup.make(Work))
      yield* Docket.strike(Work)
      const report = yield* Agenda.resume(partial.rest)
      assert.deepStrictEqual([report.existing.length, report.struck.length], [2, 0])
      yield* Docket.restore(Work)
    }).pipe(Effect.provide(Layer.provideMerge(Work.toLayer(({ n }) => Effect.succeed(n)), layer)))
  })

  test("an item within the cooldown of its task → known before anything is written: limited, not struck", () =>
    Effect.gen(function*() {
      yield* Docket.add(Cool, { user: "ada" })
      yield* drain(TaskGroup.make(Cool))
      const batch = Agenda.fromIterable(Cool, [{ user: "ada" }, { user: "grace" }])
      const options = { start: (yield* now) + hour, over: "1 hour" } as const
      const { rejected } = yield* Effect.flip(Agenda.scatter(batch, { ...options, atomic: true }))
      assert.deepStrictEqual(rejected.map(({ reason, slot }) => [slot.index, reason._tag]), [[0, "Limited"]])
      yield* empty
      const report = yield* Agenda.scatter(batch, options)
      assert.deepStrictEqual([report.struck, report.limited.map(({ index }) => index)], [[], [0]])
      yield* holds(report.scheduled)
    }).pipe(Effect.provide(Layer.merge(Agenda.layer, live(Cool, () => Effect.void)))))

  test("the store fails in the middle → what was scheduled, what existed, what failed and why, and the rest; resume → the whole plan once", () => {
    const { answers, layer, sizes } = faulty()
    return Effect.gen(function*() {
      const start = (yield* now) + hour
      yield* Docket.add(Keyed, { n: 7 }, { at: start })
      answers.push("ok", "away")
      const plan = yield* Agenda.plan(keyed(600), { start, over: "1 hour" })
      const partial = yield* Effect.flip(Agenda.resume(plan))
      assert.deepStrictEqual(sizes, [1, 250, 250])
      assert.deepStrictEqual(partial.scheduled, plan.slots.slice(0, 250).filter(({ index }) => index !== 7))
      assert.deepStrictEqual(partial.existing.map(({ index }) => index), [7])
      assert.deepStrictEqual(partial.failed.map(({ slot }) => slot), plan.slots.slice(250))
      assert.isTrue(partial.failed.every(({ reason }) => reason._tag === "StoreUnavailable"))
      assert.deepStrictEqual(partial.rest.slots, plan.slots.slice(250))
      const report = yield* Agenda.resume(partial.rest)
      assert.deepStrictEqual(report, { scheduled: partial.rest.slots, existing: [], struck: [], limited: [] })
      yield* holds([...plan.slots.filter(({ index }) => index !== 7), {
        ...plan.slots[7]!,
        at: DateTime.makeUnsafe(start)
      }])
    }).pipe(Effect.provide(layer))
  })

  test("the reply is lost after the write → resume finds Existing, also what has run meanwhile: each body runs once", () => {
    const { answers, layer } = faulty()
    const seen: Array<number> = []
    return Effect.gen(function*() {
      answers.push("ok", "lost")
      // all of them are due
      const partial = yield* Effect.flip(Agenda.scatter(works(300), { start: (yield* now) - hour, over: 1000 }))
      assert.deepStrictEqual([partial.scheduled.length, partial.rest.length], [250, 50])
      yield* drain(TaskGroup.make(Work))
      assert.strictEqual(seen.length, 300)
      const report = yield* Agenda.resume(partial.rest)
      assert.deepStrictEqual([report.scheduled.length, report.existing.length], [0, 50])
      yield* drain(TaskGroup.make(Work))
      assert.deepStrictEqual(seen.toSorted((a, b) => a - b), range(300).map(({ n }) => n))
    }).pipe(Effect.provide(Layer.provideMerge(
      Work.toLayer(({ n }) => {
        seen.push(n)
        return Effect.succeed(n)
      }),
      layer
    )))
  })

  test("whatever fails, and however often: resume until it succeeds → the whole plan exists once, and every slot was accounted for", () => {
    const { answers, layer } = faulty()
    const possible = ["ok", "away", "lost"] as const
    const stories = possible.flatMap((a) => possible.flatMap((b) => possible.map((c) => [a, b, c])))
    return Effect.gen(function*() {
      for (const story of stories) {
        answers.splice(0, Infinity, ...story)
        const plan = yield* Agenda.plan(works(251), { start: (yield* now) + hour, over: "1 hour" })
        const accounted: Array<Agenda.Slot<typeof Work>> = []
        let rest = plan
        while (rest.length > 0) {
          const before: Agenda.Plan<typeof Work> = rest
          const report = yield* Effect.catchTag(Agenda.resume(before), "ScatterPartial", Effect.succeed)
          rest = "rest" in report ? report.rest : yield* Agenda.plan(Agenda.empty, { over: 1 })
          accounted.push(...report.scheduled, ...report.existing)
          assert.strictEqual(report.scheduled.length + report.existing.length + rest.length, before.length)
        }
        assert.deepStrictEqual(placesOf(accounted), placesOf(plan.slots), story.join())
        yield* holds(plan.slots)
      }
    }).pipe(Effect.provide(layer))
  })

  test("atomic → all or nothing: one write of up to 1,000, and none when the store is away", () => {
    const { answers, layer, sizes } = faulty()
    return Effect.gen(function*() {
      const options = { start: (yield* now) + hour, over: "1 hour", atomic: true } as const
      answers.push("away")
      const refused = yield* Effect.flip(Agenda.scatter(works(1000), options))
      assert.strictEqual(refused.rejected.length, 1000)
      yield* empty
      const report = yield* Agenda.scatter(works(1000), options)
      assert.deepStrictEqual(sizes, [1000, 1000])
      yield* holds(report.scheduled)
    }).pipe(Effect.provide(layer))
  })

  test("atomic above its limit → refused with an error that names the limit, nothing written", () => {
    const { layer, sizes } = faulty()
    return Effect.gen(function*() {
      const options = { start: (yield* now) + hour, over: "1 hour", atomic: true } as const
      const { message, rejected } = yield* Effect.flip(Agenda.scatter(works(1001), options))
      assert.deepStrictEqual(rejected.map(({ reason, slot }) => [slot.index, reason._tag]), [[1000, "LimitExceeded"]])
      assert.include(message, "limit of 1000")
      assert.deepStrictEqual(sizes, [])
      yield* empty
    }).pipe(Effect.provide(layer))
  })

  test("atomic whose reply is lost → nothing is known, and writing the same plan again finds it all Existing", () => {
    const { answers, layer } = faulty()
    return Effect.gen(function*() {
      const plan = yield* Agenda.plan(works(10), { start: (yield* now) + hour, over: "1 hour" })
      const write = Agenda.Agenda.use((agenda) => agenda.write(plan, { atomic: true }))
      answers.push("lost")
      assert.strictEqual((yield* Effect.flip(write))._tag, "ScatterRejected")
      assert.deepStrictEqual((yield* write).existing, plan.slots)
      yield* holds(plan.slots)
    }).pipe(Effect.provide(layer))
  })
}
