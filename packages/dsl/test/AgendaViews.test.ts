/**
 * What a plan looks like: the table and the picture, by their structure and by files that show them.
 */
import { Agenda, Docket, DocketError, Task } from "@effect-docket/dsl"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Random, Schema } from "effect"
import { TestClock } from "effect/testing"

class Mail extends Task.make("Mail", { payload: { id: Schema.Int }, key: ["id"] }) {}
class Report extends Task.make("Report", { payload: { id: Schema.Int }, key: ["id"] }) {}

const start = "2026-06-01T09:00:00Z"
const range = (n: number) => Array.from({ length: n }, (_, id) => ({ id }))
const mails = (n: number) => Agenda.fromIterable(Mail, range(n))
const mixed = Agenda.concat(mails(70), Agenda.fromIterable(Report, range(30)))
/** `n` tasks with an item each. */
const tasks = (n: number) =>
  range(n).reduce<Agenda.Batch<Task.Any>>(
    (batch, { id }) => Agenda.concat(batch, Agenda.fromIterable(Task.make(`Task${id}`), [undefined])),
    Agenda.empty
  ) as Agenda.Batch<typeof Mail> // their schemas need no service

const plan = <T extends Task.Any>(batch: Agenda.Batch<T>, options: Partial<Agenda.PlanOptions> = {}) =>
  Random.withSeed(Agenda.plan(batch, { start, over: "50 minutes", ...options }), "views")

const lines = (text: string) => text.split("\n")

/** The elements of a name, with their attributes and their text. */
const elements = (svg: string, name: string) =>
  Array.from(svg.matchAll(new RegExp(`<${name}\\b([^>]*?)(?:/>|>([^<]*))`, "g")), ([, attributes = "", text = ""]) => ({
    text,
    ...Object.fromEntries(Array.from(attributes.matchAll(/([\w-]+)="([^"]*)"/g), ([, key, value]) => [key!, value!]))
  } as { readonly text: string } & Readonly<Record<string, string>>)) // attributes are texts

const barsOf = (svg: string) =>
  elements(svg, "rect").filter((one) => one["fill"] !== undefined && one["rx"] === undefined)
const titlesOf = (svg: string) => elements(svg, "title").slice(1).map(({ text }) => text)
const marksOf = (svg: string) => elements(svg, "path").map((one) => one["d"]!.split("M").length - 1)
const textsOf = (svg: string) => elements(svg, "text").map(({ text }) => text)

/** Fails unless every element is closed in its place, and every text is one that XML can hold. */
const wellFormed = (svg: string) => {
  const open: Array<string> = []
  let rest = svg
  while (rest !== "") {
    const [all, text, closing, name, selfClosing] = /^([^<]*)(?:<(\/?)(\w+)(?:\s[\w-]+="[^"<]*")*(\/?)>)?/.exec(rest)!
    assert.isAbove(all.length, 0, rest.slice(0, 80))
    assert.notMatch(text!, /&(?!amp;|lt;|gt;|quot;)/)
    if (closing === "/") assert.strictEqual(open.pop(), name)
    else if (name !== undefined && selfClosing === "") open.push(name)
    rest = rest.slice(all.length)
  }
  assert.deepStrictEqual(open, [])
  // oxlint-disable-next-line no-control-regex -- which XML cannot hold
  assert.notMatch(svg, /[\0-\x08\x0b-\x1f\ufffe\uffff]/)
}

describe("Agenda.table", () => {
  it.effect("shows each item of a short plan, and a sum", () =>
    Effect.gen(function*() {
      const text = Agenda.table(yield* plan(mails(5), { over: "10 minutes" }))
      assert.deepStrictEqual(lines(text), [
        "index    offset  time                  task  key",
        "    0  +0:00:00  2026-06-01T09:00:00Z  Mail  Mail/0",
        "    1  +0:02:30  2026-06-01T09:02:30Z  Mail  Mail/1",
        "    2  +0:05:00  2026-06-01T09:05:00Z  Mail  Mail/2",
        "    3  +0:07:30  2026-06-01T09:07:30Z  Mail  Mail/3",
        "    4  +0:10:00  2026-06-01T09:10:00Z  Mail  Mail/4",
        "",
        "5 items over 10m, from 2026-06-01T09:00:00Z to 2026-06-01T09:10:00Z",
        "Mail 5; at most 1 in 2m, first at 2026-06-01T09:00:00Z"
      ])
    }))

  it.effect("leaves out the middle of a long plan", () =>
    Effect.gen(function*() {
      const long = yield* plan(mails(1000))
      const indices = (text: string) => lines(text).slice(1, -3).map((line) => line.trim().split(/\s+/)[0])
      assert.deepStrictEqual(
        indices(Agenda.table(long)),
        [...range(10).map(({ id }) => String(id)), "…", ...range(10).map(({ id }) => String(990 + id))]
      )
      assert.include(Agenda.table(long), "\n    …  980 more\n")
      assert.deepStrictEqual(indices(Agenda.table(long, { rows: 3 })), ["0", "1", "…", "999"])
      assert.deepStrictEqual(indices(Agenda.table(long, { rows: 1 })), ["0", "…"])
      assert.deepStrictEqual(indices(Agenda.table(long, { rows: 0 })), ["…"])
      assert.strictEqual(indices(Agenda.table(long, { rows: 1000 })).length, 1000)
      assert.strictEqual(indices(Agenda.table(long, { rows: Infinity })).length, 1000)
      assert.strictEqual(indices(Agenda.table(yield* plan(mails(20)))).length, 20)
    }))

  it.effect("is a line for a plan without items", () =>
    Effect.gen(function*() {
      assert.strictEqual(Agenda.table(yield* plan(Agenda.empty)), "0 items")
    }))

  it.effect("counts from the start of the period, also where its first item lies later", () =>
    Effect.gen(function*() {
      assert.include(
        Agenda.table(yield* plan(mails(1), { over: "10 minutes" })),
        "    0  +0:05:00  2026-06-01T09:05:00Z"
      )
      yield* TestClock.setTime(Date.parse("2026-06-03T10:00:00.500Z"))
      const late = lines(Agenda.table(yield* plan(mails(2), { over: "3 days" })))
      assert.deepStrictEqual(late.slice(1, 3), [
        "    0  +2d 1:00:00.500  2026-06-03T10:00:00.500Z  Mail  Mail/0",
        "    1  +3d 0:00:00.000  2026-06-04T09:00:00.000Z  Mail  Mail/1"
      ])
    }))

  it.effect("sums up what is left of a plan by the period of the plan", () =>
    Effect.gen(function*() {
      // a docket that is away
      const reason = new DocketError.StoreUnavailable({ cause: new Error("connection refused") })
      const refusing = Effect.fail(new DocketError.DocketError({ operation: "add", reason }))
      const docket = { name: "away", addEncoded: () => refusing, refused: () => refusing }
      const away = Layer.succeed(Docket.Docket, docket as unknown as Docket.Docket["Service"])
      const whole = yield* plan(mails(1))
      const partial = yield* Agenda.Agenda.use((agenda) => agenda.write(whole, { atomic: false })).pipe(
        Effect.flip,
        Effect.provide(Layer.provide(Agenda.layer, away))
      )
      assert(partial._tag === "ScatterPartial")
      assert.strictEqual(Agenda.table(partial.rest), Agenda.table(whole))
      assert.include(Agenda.table(partial.rest), "+0:25:00")
    }))

  it.effect("names the first tasks and counts the others", () =>
    Effect.gen(function*() {
      const sum = (n: number) => Effect.map(plan(tasks(n)), (plan) => /^(Task0.*);/m.exec(Agenda.table(plan))?.[1])
      assert.strictEqual(yield* sum(4), "Task0 1, Task1 1, Task2 1, Task3 1")
      assert.strictEqual(yield* sum(5), "Task0 1, Task1 1, Task2 1, Task3 1, 1 other task")
      assert.strictEqual(yield* sum(9), "Task0 1, Task1 1, Task2 1, Task3 1, 5 other tasks")
    }))

  it.effect("keeps every item in one line, whatever its key is", () =>
    Effect.gen(function*() {
      const keys = ["a b", "a\nb", "\u2028", "\u202egnp", "\uffff", "{\"\u00e9\u{1f600}\"}", "x".repeat(4000)]
      const batch = keys.reduce<Agenda.Batch<typeof Mail>>(
        (batch, key) => Agenda.add(batch, Mail, { id: 1 }, { key }),
        Agenda.empty
      )
      const text = Agenda.table(yield* plan(batch))
      assert.strictEqual(text.split(/\r\n|[\n\v\f\r\x85\u2028\u2029]/).length, keys.length + 4)
      assert.deepStrictEqual(lines(text).slice(1, -3).map((line) => line.slice(line.indexOf("Mail  ") + 6)), [
        "\"a b\"",
        "\"a\\nb\"",
        "\"\\u{2028}\"",
        "\"\\u{202e}gnp\"",
        "\"\\u{ffff}\"",
        "{\"\u00e9\u{1f600}\"}",
        `${"x".repeat(59)}…`
      ])
    }))
})

describe("Agenda.svg", () => {
  it.effect("has a bar part per task and stretch of time, which add up to the items", () =>
    Effect.gen(function*() {
      const svg = Agenda.svg(yield* plan(mixed, { jitter: "5 minutes" }))
      wellFormed(svg)
      const items = titlesOf(svg).map((title) => Number(/: (\d+) items?$/.exec(title)![1]))
      assert.strictEqual(items.reduce((sum, count) => sum + count, 0), 100)
      // all of one scale: the heights add up like the items
      const bars = barsOf(svg)
      const unit = Math.min(...bars.map((bar) => Number(bar["height"])))
      const byColor = Map.groupBy(bars, (bar) => bar["fill"])
      assert.deepStrictEqual(
        Array.from(byColor.values(), (bars) =>
          Math.round(bars.reduce((sum, bar) => sum + Number(bar["height"]), 0) / unit)),
        [70, 30]
      )
      for (const bar of bars) {
        assert.isAtMost(Number(bar["y"]) + Number(bar["height"]), 252.01)
      }
      assert.includeMembers(textsOf(svg), ["100 items over 50m", "Mail (70)", "Report (30)"])
    }))

  it.effect("has an axis from the start to the end of the period", () =>
    Effect.gen(function*() {
      const svg = Agenda.svg(yield* plan(mails(3), { over: "30 minutes" }))
      assert.deepStrictEqual(
        elements(svg, "line").filter((line) => line["class"] === "agenda-end").map((line) => line["x1"]),
        [
          "52",
          "732"
        ]
      )
      const axis = ["0", "+5m", "+10m", "+15m", "+20m", "+25m", "+30m"]
      assert.includeMembers(textsOf(svg), [...axis, "2026-06-01T09:00:00Z", "2026-06-01T09:30:00Z"])
      // both ends and the middle
      assert.deepStrictEqual(elements(svg, "path")[0]!["d"], "M52 255v8M392 255v8M732 255v8")
      assert.deepStrictEqual(titlesOf(svg), [
        "2026-06-01T09:00:00Z to 2026-06-01T09:05:00Z: 1 item",
        "2026-06-01T09:15:00Z to 2026-06-01T09:20:00Z: 1 item",
        "2026-06-01T09:25:00Z to 2026-06-01T09:30:00Z: 1 item"
      ])
    }))

  it.effect("says in words what it shows", () =>
    Effect.gen(function*() {
      const [root] = elements(Agenda.svg(yield* plan(mails(100))), "svg")
      assert.strictEqual(root!["role"], "img")
      assert.strictEqual(
        root!["aria-label"],
        "100 items over 50m; at most 2 in 1m, first at 2026-06-01T09:00:00Z"
      )
      const [empty] = elements(Agenda.svg(yield* plan(Agenda.empty)), "svg")
      assert.strictEqual(empty!["aria-label"], "0 items over 50m; nothing to schedule")
    }))

  it.effect("shades closed hours", () =>
    Effect.gen(function*() {
      const window = { from: "22:00", to: "06:00" } as const
      const svg = Agenda.svg(yield* plan(mails(100), { over: "2 days", window }))
      const shut = elements(svg, "rect").filter((rect) => rect["class"] === "agenda-shut" && rect["rx"] === undefined)
      // 9 to 22, 6 to 22, 6 to 9
      const hour = 680 / 48
      assert.deepStrictEqual(shut.map((rect) => Math.round(Number(rect["width"]) / hour)), [13, 16, 3])
      assert.include(textsOf(svg), "closed")
      assert.notInclude(textsOf(Agenda.svg(yield* plan(mails(100)))), "closed")
    }))

  it.effect("gives six tasks a colour each; of more, the last share one", () =>
    Effect.gen(function*() {
      const legend = (n: number) =>
        Effect.map(plan(tasks(n)), (plan) => textsOf(Agenda.svg(plan)).filter((text) => text.endsWith(")")))
      assert.deepStrictEqual(yield* legend(6), range(6).map(({ id }) => `Task${id} (1)`))
      assert.deepStrictEqual(yield* legend(8), [...range(5).map(({ id }) => `Task${id} (1)`), "3 other tasks (3)"])
      const colors = new Set(barsOf(Agenda.svg(yield* plan(tasks(8)))).map((bar) => bar["fill"]))
      assert.strictEqual(colors.size, 6)
    }))

  it.effect("has colours that are readable on both of its backgrounds", () =>
    Effect.gen(function*() {
      const luminance = (color: string) => {
        const [r, g, b] = [1, 3, 5].map((at) => {
          const value = Number.parseInt(color.slice(at, at + 2), 16) / 255
          return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4
        }) as [number, number, number]
        return 0.2126 * r + 0.7152 * g + 0.0722 * b
      }
      const contrast = (one: string, other: string) => {
        const [dark, light] = [luminance(one), luminance(other)].toSorted((a, b) => a - b) as [number, number]
        return (light + 0.05) / (dark + 0.05)
      }
      const svg = Agenda.svg(yield* plan(tasks(9)))
      const [light, dark] = elements(svg, "style")[0]!.text.split("@media (prefers-color-scheme:dark)")
      const fill = (style: string | undefined, name: string) =>
        new RegExp(`\\.agenda-${name}\\{fill:(#\\w{6})`).exec(style!)![1]!
      const six = new Set([...barsOf(svg), ...barsOf(Agenda.svg(yield* plan(tasks(6))))].map((bar) => bar["fill"]!))
      assert.strictEqual(six.size, 7)
      for (const style of [light, dark]) {
        const background = fill(style, "bg")
        for (const color of six) assert.isAtLeast(contrast(color, background), 3, `${color} on ${background}`)
        for (const name of ["ink", "dim"]) assert.isAtLeast(contrast(fill(style, name), background), 4.5, name)
      }
    }))

  it.effect("does not grow with the plan", () =>
    Effect.gen(function*() {
      const svg = Agenda.svg(yield* plan(mails(20_000), { over: "1 day", jitter: "1 minute" }))
      assert.isAtMost(svg.length, 40_000)
      assert.isAtMost(titlesOf(svg).length, 60)
      assert.isAtMost(marksOf(svg)[0]!, 2 * 680 + 1)
      assert.include(textsOf(svg), "Mail (20,000)")
    }), 60_000)

  it.effect("escapes what is written by others", () =>
    Effect.gen(function*() {
      const batch = Agenda.fromIterable(Task.make("<b>&\"\0\ufffe"), [undefined])
      const svg = Agenda.svg(yield* plan(batch))
      wellFormed(svg)
      assert.include(svg, "&quot;&lt;b&gt;&amp;\\&quot;\\u0000\\u{fffe}&quot; (1)")
    }))

  it.effect("stands the extremes", () =>
    Effect.gen(function*() {
      for (
        const [batch, options] of [
          [Agenda.empty, {}],
          [mails(1), { over: 0.5 }],
          [mails(5), { over: 1 }],
          [mails(3), { over: "36500 days" }],
          [mails(3), { over: "3650 days", window: { from: "09:00", to: "17:00" } }]
        ] as ReadonlyArray<[Agenda.Batch<typeof Mail>, Partial<Agenda.PlanOptions>]>
      ) {
        const made = yield* plan(batch, options)
        const svg = Agenda.svg(made)
        wellFormed(svg)
        assert.notMatch(svg + Agenda.table(made), /NaN|Infinity|undefined/)
        assert.isAtMost(svg.length, 20_000)
      }
    }))
})

describe("snapshots", () => {
  const pictures = {
    even: plan(mails(100)),
    jitter: plan(mixed, { jitter: "5 minutes" }),
    single: plan(mails(1), { over: "10 minutes" }),
    window: plan(mails(200), { over: "3 days", jitter: "30 minutes", window: { from: "22:00", to: "06:00" } }),
    many: plan(tasks(9)),
    empty: plan(Agenda.empty)
  } satisfies Record<string, Effect.Effect<Agenda.Plan<Task.Any>, unknown>>
  for (const [name, make] of Object.entries(pictures)) {
    it.effect(name, ({ expect }) =>
      Effect.gen(function*() {
        const made: Agenda.Plan<Task.Any> = yield* make
        yield* Effect.promise(() => expect(Agenda.svg(made)).toMatchFileSnapshot(`snapshots/agenda-${name}.svg`))
        yield* Effect.promise(() =>
          expect(`${Agenda.table(made)}\n`).toMatchFileSnapshot(`snapshots/agenda-${name}.txt`)
        )
      }))
  }
})
