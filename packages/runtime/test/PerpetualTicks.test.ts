/**
 * When perpetual tasks run, as a pure function: ticks over changes of clocks against an oracle that asks `Intl`, and the
 * policies against what the guide says of them.
 */
import { type Perpetual, Task } from "@effect-docket/dsl"
import * as Interpreter from "@effect-docket/dsl/Interpreter"
import { assert, describe, it, vi } from "@effect/vitest"
import { Arbitrary, Cron, DateTime, Effect, Schema } from "effect"

// the tests of a file run side by side, and some of them think for seconds
vi.setConfig({ testTimeout: 120_000 })

const { cronAfter, during, first, identity, next } = Interpreter.recurrence
type Recurrence = Interpreter.recurrence.Recurrence

const second = 1000
const minute = 60 * second
const hour = 60 * minute
const day = 24 * hour

const at = (iso: string): number => DateTime.toEpochMillis(DateTime.makeUnsafe(iso))
const iso = (millis: number): string => DateTime.formatIso(DateTime.makeUnsafe(millis)).replace(":00.000Z", "Z")

const read = (perpetual: object): Recurrence =>
  Interpreter.resolved(Task.make("T", { perpetual: perpetual as Perpetual.Every })).perpetual! // options of either kind

const cronOf = (cron: string, timeZone: string): Cron.Cron => {
  const { next } = read({ cron, timeZone })
  return next._tag === "Cron" ? next.cron : assert.fail("no cron")
}

const ticksOf = (cron: Cron.Cron, after: number, until: number): ReadonlyArray<number> => {
  const ticks: Array<number> = []
  let tick = cronAfter(cron, after)
  while (tick !== undefined && tick <= until) {
    ticks.push(tick)
    tick = cronAfter(cron, tick)
  }
  return ticks
}

/** Checks a property for many inputs; a failure prints the input and what replays it. */
const check = <A>(schema: Schema.ConstraintDecoder<A>, runs: number, property: (value: A) => void) =>
  Effect.gen(function*() {
    const result = yield* Arbitrary.checkEffect(
      Arbitrary.schema(schema as Schema.Codec<A>),
      (value) => Effect.try({ try: () => (property(value), true), catch: String }),
      { runs, seed: "perpetual" }
    )
    const failure = result._tag === "Falsified" && result.failure._tag === "PropertyError" ? result.failure.error : ""
    assert.strictEqual(result._tag, "Passed", `${Arbitrary.formatCheckFailure(result)}\n${failure}`)
  })

// ---------------------------------------------------------------------------------------------------------------------
// changes of clocks
// ---------------------------------------------------------------------------------------------------------------------

describe("Ticks of a cron expression over changes of clocks", () => {
  const table: ReadonlyArray<readonly [name: string, cron: string, zone: string, from: string, ticks: string]> = [
    [
      "a time that does not exist stands for the instant that it would have been",
      "30 2 * * *",
      "Europe/Berlin",
      "2026-03-28T12:00Z",
      "2026-03-29T01:30Z 2026-03-30T00:30Z"
    ],
    [
      "each of several in one gap does",
      "15,45 2 * * *",
      "Europe/Berlin",
      "2026-03-28T12:00Z",
      "2026-03-29T01:15Z 2026-03-29T01:45Z 2026-03-30T00:15Z"
    ],
    [
      "two that become one instant run once",
      "30 2,3 * * *",
      "Europe/Berlin",
      "2026-03-28T12:00Z",
      "2026-03-29T01:30Z 2026-03-30T00:30Z"
    ],
    [
      "a time that comes twice counts the first time",
      "30 2 * * *",
      "Europe/Berlin",
      "2026-10-24T12:00Z",
      "2026-10-25T00:30Z 2026-10-26T01:30Z"
    ],
    [
      "at every hour means every hour that passes, when clocks go forward",
      "0 * * * *",
      "Europe/Berlin",
      "2026-03-28T23:30Z",
      "2026-03-29T00:00Z 2026-03-29T01:00Z 2026-03-29T02:00Z"
    ],
    [
      "and when they go back",
      "0 * * * *",
      "Europe/Berlin",
      "2026-10-24T23:30Z",
      "2026-10-25T00:00Z 2026-10-25T01:00Z 2026-10-25T02:00Z"
    ],
    [
      "in New York, forward",
      "30 2 * * *",
      "America/New_York",
      "2026-03-07T12:00Z",
      "2026-03-08T07:30Z 2026-03-09T06:30Z"
    ],
    [
      "in New York, back",
      "30 1 * * *",
      "America/New_York",
      "2026-10-31T12:00Z",
      "2026-11-01T05:30Z 2026-11-02T06:30Z"
    ],
    [
      "on Lord Howe, forward by half an hour",
      "10,20 2 * * *",
      "Australia/Lord_Howe",
      "2026-10-03T12:00Z",
      "2026-10-03T15:40Z 2026-10-03T15:50Z 2026-10-04T15:10Z"
    ],
    [
      "on Lord Howe, back by half an hour",
      "45 1 * * *",
      "Australia/Lord_Howe",
      "2026-04-04T12:00Z",
      "2026-04-04T14:45Z 2026-04-05T15:15Z"
    ],
    [
      "a midnight that does not exist",
      "0 0 * * *",
      "America/Sao_Paulo",
      "2018-11-03T12:00Z",
      "2018-11-04T03:00Z 2018-11-05T02:00Z"
    ],
    [
      "a day that does not exist",
      "0 9 * * *",
      "Pacific/Apia",
      "2011-12-29T12:00Z",
      "2011-12-29T19:00Z 2011-12-30T19:00Z 2011-12-31T19:00Z"
    ]
  ]
  for (const [name, cron, zone, from, ticks] of table) {
    it(`${name}: ${cron} in ${zone}`, () => {
      const expected = ticks.split(" ")
      const all = ticksOf(cronOf(cron, zone), at(from), at(expected.at(-1)!))
      assert.deepStrictEqual(all.map(iso), expected)
    })
  }

  it("`Cron.next` of effect 4.1.0 forgets the second of two times in one gap, which is why this one is ours", () => {
    const cron = Cron.parseUnsafe("15,45 2 * * *", "Europe/Berlin")
    assert.strictEqual(iso(Cron.next(cron, at("2026-03-29T01:15Z")).getTime()), "2026-03-30T00:15Z")
  })

  it("a `Cron` value keeps its zone and its rule for times that come twice; without a zone it is UTC", () => {
    const only = (cron: Cron.Cron, timeZone?: string) => {
      const { next } = read({ cron, timeZone })
      return next._tag === "Cron" ? ticksOf(next.cron, at("2026-10-24T12:00Z"), at("2026-10-25T12:00Z")).map(iso) : []
    }
    const parse = (zone?: string) => Cron.parseUnsafe("30 2 * * *", zone, { onDstOverlap: "both" })
    assert.deepStrictEqual(only(parse("Europe/Berlin")), ["2026-10-25T00:30Z", "2026-10-25T01:30Z"])
    assert.deepStrictEqual(only(parse()), ["2026-10-25T02:30Z"])
    assert.deepStrictEqual(only(parse(), "Europe/Berlin"), ["2026-10-25T00:30Z", "2026-10-25T01:30Z"])
  })

  // an hour before and after each, clocks differ
  const changes = [
    ["Europe/Berlin", "2026-03-29T01:00Z"],
    ["Europe/Berlin", "2026-10-25T01:00Z"],
    ["America/New_York", "2026-03-08T07:00Z"],
    ["America/New_York", "2026-11-01T06:00Z"],
    ["Australia/Lord_Howe", "2026-10-03T15:30Z"],
    ["Australia/Lord_Howe", "2026-04-04T15:00Z"],
    ["America/Sao_Paulo", "2018-11-04T03:00Z"],
    ["Pacific/Apia", "2011-12-30T10:00Z"],
    ["UTC", "2026-03-29T01:00Z"]
  ] as const

  /** What the clock on the wall shows each minute, as if it were UTC. */
  const walls = (zone: string, from: number, minutes: number): ReadonlyArray<number> => {
    const format = new Intl.DateTimeFormat("en-US", {
      timeZone: zone,
      hourCycle: "h23",
      year: "numeric",
      month: "numeric",
      day: "numeric",
      hour: "numeric",
      minute: "numeric"
    })
    return Array.from({ length: minutes }, (_, i) => {
      const parts = Object.fromEntries(format.formatToParts(from + i * minute).map((part) => [part.type, part.value]))
      const { day, hour, minute: m, month, year } = parts
      return Date.UTC(Number(year), Number(month) - 1, Number(day), Number(hour), Number(m))
    })
  }

  const windows = changes.map(([zone, change]) => {
    const from = at(change) - 2 * day
    return { zone, from, walls: walls(zone, from, 4 * 24 * 60) }
  })

  const Expression = Schema.Struct({
    change: Schema.Literals(changes.map((_, index) => index)),
    minutes: Schema.Array(Schema.Literals([0, 10, 15, 29, 30, 31, 45, 59])).check(
      Schema.isMinLength(1),
      Schema.isMaxLength(3)
    ),
    hours: Schema.Array(Schema.Literals([0, 1, 2, 3, 12, 23])).check(Schema.isMaxLength(3)),
    weekday: Schema.UndefinedOr(Schema.Literals([0, 1, 6]))
  })

  it.effect(
    "are those that the clock on the wall shows, by the rules above",
    () =>
      check(Expression, 200, ({ change, hours, minutes, weekday }) => {
        const { from, walls, zone } = windows[change]!
        const cron = `${minutes.join(",")} ${hours.length === 0 ? "*" : hours.join(",")} * * ${weekday ?? "*"}`
        const fits = (wall: number) => {
          const date = new Date(wall)
          return minutes.some((m) => m === date.getUTCMinutes()) &&
            (hours.length === 0 || hours.some((h) => h === date.getUTCHours())) &&
            (weekday === undefined || weekday === date.getUTCDay())
        }
        const expected = new Set<number>()
        const seen = new Set<number>()
        walls.forEach((wall, i) => {
          if (fits(wall) && (hours.length === 0 || !seen.has(wall))) expected.add(from + i * minute)
          seen.add(wall)
          // local times between this one and the next, which nobody sees
          for (let hidden = wall + minute; hidden < walls[i + 1]!; hidden += minute) {
            if (fits(hidden)) expected.add(from + i * minute + hidden - wall)
          }
        })
        const last = from + (walls.length - 1) * minute
        assert.deepStrictEqual(
          ticksOf(cronOf(cron, zone), from - 1, last).map(iso),
          Array.from(expected).filter((tick) => tick <= last).toSorted((a, b) => a - b).map(iso),
          `${cron} in ${zone}`
        )
      }),
    60_000
  )
})

// ---------------------------------------------------------------------------------------------------------------------
// policies
// ---------------------------------------------------------------------------------------------------------------------

const who = identity("T", "k")

describe("What comes next", () => {
  /** The next tick in seconds, of a run that was due at 0. */
  const after = (perpetual: object, startedAt: number | undefined, now: number, due = 0) => {
    const start = startedAt === undefined ? undefined : startedAt * second
    const tick = next(read(perpetual), { identity: who, due: due * second, startedAt: start }, now * second)
    return tick === undefined ? undefined : tick.at / second
  }
  // each ten seconds
  const cron = "*/10 * * * * *"

  it("an interval counts from start to start, and a run that takes longer is followed at once", () => {
    for (const overlap of ["skip", "queue"]) {
      for (const catchUp of ["skip", "latest"]) {
        const every = { every: "10 seconds", overlap, catchUp }
        assert.strictEqual(after(every, 0, 1), 10)
        assert.strictEqual(after(every, 2, 3), 12, "it began late")
        assert.strictEqual(after(every, 0, 25), 25)
        assert.strictEqual(after(every, 47, 48), 57, "no burst after a pause")
      }
    }
  })

  it("an interval that makes up for everything counts from tick to tick", () => {
    const every = { every: "10 seconds", catchUp: "all" }
    assert.strictEqual(after(every, 2, 3), 10)
    assert.strictEqual(after(every, 47, 48), 10)
    assert.strictEqual(after(every, 48, 49, 10), 20)
    assert.strictEqual(after(every, 49, 49, 40), 50)
    assert.strictEqual(after(every, 0, 25), 25, "what comes while it runs is not missed")
  })

  it("ticks that come while a run runs are left out, or one of them waits", () => {
    for (const catchUp of ["skip", "latest", "all"]) {
      assert.strictEqual(after({ cron, catchUp }, 0, 1), 10)
      assert.strictEqual(after({ cron, catchUp }, 0, 25), 30)
      assert.strictEqual(after({ cron, catchUp }, 0, 20), 30)
      assert.strictEqual(after({ cron, catchUp, overlap: "queue" }, 0, 1), 10)
    }
    assert.strictEqual(after({ cron, overlap: "queue" }, 0, 25), 20)
    assert.strictEqual(after({ cron, overlap: "queue" }, 0, 20), 20)
    assert.strictEqual(after({ cron, overlap: "queue", catchUp: "all" }, 0, 25), 20)
    // it was not missed: its time is when the run before it ended
    assert.strictEqual(after({ cron, overlap: "queue", catchUp: "skip" }, 0, 25), 25)
  })

  it("or each has a run of its own, and the first tick after them is next", () => {
    assert.strictEqual(after({ cron, overlap: "allow" }, 0, 25), 30)
    assert.strictEqual(after({ every: "10 seconds", overlap: "allow" }, 0, 25), 30)
    assert.strictEqual(after({ every: "10 seconds", overlap: "allow" }, 3, 4), 13)
    const last = { identity: who, due: 0, startedAt: 3000 }
    assert.strictEqual(during(read({ cron, overlap: "allow" }), last, 3000)?.at, 10_000)
    assert.strictEqual(during(read({ cron, overlap: "allow" }), last, 10_000)?.at, 20_000)
    assert.strictEqual(during(read({ every: "10 seconds", overlap: "allow" }), last, 3000)?.at, 13_000)
    assert.strictEqual(during(read({ every: "10 seconds", overlap: "allow" }), last, 13_000)?.at, 23_000)
  })

  it("ticks that came while nothing ran are left out, or made up for one after the other", () => {
    for (const overlap of ["skip", "queue"]) {
      assert.strictEqual(after({ cron, overlap }, 47, 48), 50)
      assert.strictEqual(after({ cron, overlap, catchUp: "skip" }, 47, 48), 50)
      assert.strictEqual(after({ cron, overlap, catchUp: "all" }, 47, 48), 10)
      assert.strictEqual(after({ cron, overlap, catchUp: "all" }, 48, 49, 10), 20)
      assert.strictEqual(after({ cron, overlap, catchUp: "all" }, 49, 49, 40), 50)
    }
    assert.strictEqual(after({ cron, overlap: "queue" }, 47, 75), 70, "of those it was too late for, none waits")
  })

  it("a run that was missed is itself next, but for `catchUp: \"skip\"`", () => {
    for (const when of [{ cron }, { every: "10 seconds" }]) {
      for (const catchUp of ["latest", "all"]) assert.strictEqual(after({ ...when, catchUp }, undefined, 5000), 0)
      const skip = { ...when, catchUp: "skip" }
      assert.strictEqual(after(skip, undefined, 0), 0)
      assert.strictEqual(after(skip, undefined, 9), 0, "a little late")
      assert.strictEqual(after(skip, undefined, 10), 20, "the next has come as well")
      assert.strictEqual(after(skip, undefined, 47), 50)
    }
    const daily = { cron: "@daily", catchUp: "skip" }
    assert.strictEqual(after(daily, undefined, 59), 0)
    assert.strictEqual(after(daily, undefined, 60), 86_400, "late by a minute")
    assert.strictEqual(after({ every: "1 day", catchUp: "skip" }, undefined, 60), 86_400)
  })

  it("a clock that goes back repeats no tick", () => {
    assert.strictEqual(after({ cron }, -35, -34), 10)
    assert.strictEqual(after({ cron, catchUp: "all", overlap: "queue" }, -35, -34), 10)
    assert.strictEqual(after({ every: "10 seconds" }, -35, -34), 10)
    // the worker has not heard of the store's clock for a while
    assert.strictEqual(after({ cron }, 0, -0.001), 10)
  })

  it("there is nothing after the end of time", () => {
    const end = 8.64e12
    assert.strictEqual(after({ cron }, end - 1, end, end - 1), undefined)
    assert.strictEqual(after({ every: "10 seconds" }, end - 1, end, end - 1), undefined)
    assert.strictEqual(after({ every: "10 seconds" }, end - 10, end - 9, end - 10), end)
    assert.strictEqual(first(read({ cron }), who, end * second), undefined)
  })

  it("the first run is at once, or at the next tick", () => {
    assert.deepStrictEqual(first(read({ every: "1 hour" }), who, 1234), { at: 1234, due: 1234 })
    assert.deepStrictEqual(first(read({ cron }), who, 1234), { at: 10_000, due: 10_000 })
    assert.deepStrictEqual(first(read({ cron }), who, 10_000), { at: 20_000, due: 20_000 })
  })

  // -------------------------------------------------------------------------------------------------------------------
  // whole chains
  // -------------------------------------------------------------------------------------------------------------------

  const recurrences = [
    { cron: "30 2 * * *", timeZone: "Europe/Berlin" },
    { cron: "15,45 2 * * *", timeZone: "Europe/Berlin" },
    { cron: "*/15 * * * *", timeZone: "Europe/Berlin" },
    { cron: "*/20 1,2 * * *", timeZone: "America/New_York" },
    { cron: "10 1,2 * * *", timeZone: "Australia/Lord_Howe" },
    { every: "10 minutes" },
    { every: "7 hours" }
  ]
  // two days before clocks change in each of the zones
  const starts = [
    "2026-03-06T12:00Z",
    "2026-03-27T12:00Z",
    "2026-04-02T12:00Z",
    "2026-10-01T12:00Z",
    "2026-10-23T12:00Z"
  ].map(at)

  const span = Schema.Literals([0, 0, 1, 999, 50 * second, 11 * minute, hour, 5 * hour, 26 * hour])
  const Chain = Schema.Struct({
    recurrence: Schema.Literals(recurrences.map((_, index) => index)),
    start: Schema.Literals(starts.map((_, index) => index)),
    overlap: Schema.Literals(["skip", "queue", "allow"]),
    catchUp: Schema.Literals(["skip", "latest", "all"]),
    jitter: Schema.Literals([0, 0, 1, 2, 777, 9 * minute]),
    cycles: Schema.Array(Schema.Struct({
      /** How late it is claimed, how long it takes, and by how much the store's clock is put forward or back meanwhile. */
      late: span,
      takes: span,
      jump: Schema.Literals([0, 0, 0, hour, -hour, 2 * day, -3 * day])
    })).check(Schema.isMinLength(3), Schema.isMaxLength(25))
  })

  it.effect(
    "of any chain, over changes of clocks: never early, no tick twice, none left out but by its policy",
    () =>
      check(Chain, 200, ({ catchUp, cycles, jitter, overlap, recurrence: index, start }) => {
        if (overlap === "allow" && catchUp === "all") return
        const recurrence = read({ ...recurrences[index], overlap, catchUp, jitter })
        const when = recurrence.next
        const between = (from: number, to: number): ReadonlyArray<number> =>
          when._tag === "Cron" && from < to ? ticksOf(when.cron, from, to) : []
        let tick = first(recurrence, who, starts[start]!)!
        let clock = starts[start]!
        for (const { jump, late, takes } of cycles) {
          clock = Math.max(clock, tick.due) + late
          const claimed = next(recurrence, { identity: who, due: tick.due, startedAt: undefined }, clock)!
          if (claimed.due > clock) {
            assert.strictEqual(catchUp, "skip")
            const missed = when._tag === "Cron" ? between(tick.at, clock).length > 0 : clock - tick.due >= when.millis
            assert.isTrue(missed || clock - tick.due >= minute, "it was missed")
            assert.isAbove(claimed.at, clock)
            assert.deepStrictEqual(between(clock, claimed.at - 1), [], "the first tick from now on")
            tick = claimed
            continue
          }
          assert.strictEqual(claimed.due, tick.due, "the run itself")
          const startedAt = clock
          clock = startedAt + takes + jump
          const now = Math.max(startedAt, clock)
          const last = { identity: who, due: tick.due, startedAt }
          const successor = next(recurrence, last, clock)!
          assert.deepStrictEqual(next(recurrence, last, clock), successor, "the same each time")
          assert.isAbove(successor.at, tick.at)
          assert.isTrue(successor.due >= successor.at && successor.due <= successor.at + jitter, "never early")
          if (when._tag === "Every") {
            const base = catchUp === "all" ? tick.at : startedAt - (tick.due - tick.at)
            assert.isAtLeast(successor.at, base + when.millis, "never early")
            const isMissed = catchUp === "all" && base + when.millis <= startedAt
            if (overlap === "allow") {
              assert.isTrue(successor.at > now && successor.at - when.millis <= Math.max(now, base))
              assert.strictEqual((successor.at - base) % when.millis, 0)
            } else {
              assert.strictEqual(successor.at, isMissed ? base + when.millis : Math.max(base + when.millis, now))
            }
          } else {
            const missed = between(tick.at, startedAt)
            const overlapping = between(startedAt, now)
            const waiting = overlap === "queue" ? overlapping.at(-1) : undefined
            const following = cronAfter(when.cron, now)
            const expected = catchUp === "all" && missed.length > 0
              ? missed[0]
              : waiting === undefined
              ? following
              : catchUp === "skip"
              ? now
              : waiting
            assert.strictEqual(successor.at, expected)
          }
          tick = successor
        }
      }),
    60_000
  )
})

// ---------------------------------------------------------------------------------------------------------------------
// jitter
// ---------------------------------------------------------------------------------------------------------------------

describe("Jitter", () => {
  /** Runs that begin without a delay. */
  const chain = (recurrence: Recurrence, key: string, length = 1000) => {
    const who = identity("T", key)
    let tick = first(recurrence, who, 0)!
    return Array.from({ length }, () => {
      const current = tick
      tick = next(recurrence, { identity: who, due: tick.due, startedAt: tick.due }, tick.due)!
      return current
    })
  }

  it("does not add up: the thousandth tick is where it would be without", () => {
    const every = chain(read({ every: "1 minute", jitter: "20 seconds" }), "k")
    assert.deepStrictEqual(every.map(({ at }) => at), every.map((_, n) => n * minute))
    const cron = chain(read({ cron: "* * * * *", jitter: "20 seconds" }), "k")
    assert.deepStrictEqual(cron.map(({ at }) => at), cron.map((_, n) => (n + 1) * minute))
  })

  it("is spread over its length, differs from run to run and from key to key, and is the same each time", () => {
    for (const when of [{ every: "1 minute" }, { cron: "* * * * *" }]) {
      const recurrence = read({ ...when, jitter: "20 seconds" })
      const delays = (key: string) => chain(recurrence, key).map(({ at, due }) => due - at)
      const one = delays("one")
      assert.deepStrictEqual(delays("one"), one)
      assert.isTrue(one.every((delay) => delay >= 0 && delay <= 20 * second))
      assert.isBelow(Math.min(...one), 2 * second)
      assert.isAbove(Math.max(...one), 15 * second)
      assert.isAbove(new Set(one).size, 900)
      const keys = Array.from({ length: 1000 }, (_, n) => chain(recurrence, `key ${n}`, 2)[1]!.due)
      assert.isAbove(Math.max(...keys) - Math.min(...keys), 9 * second)
      assert.isAbove(new Set(keys).size, 900)
    }
  })
})
