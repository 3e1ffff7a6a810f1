/**
 * What a fleet looks like on the terminal: a table that is redrawn in its place, or plain lines where it cannot be.
 */
import type { Docket } from "@effect-docket/dsl"
import { Console, Context, Effect, Layer, Stdio, Terminal } from "effect"
import { bold, fit, number, plural } from "../shared/text.ts"
import { hasEnded, type Member } from "./crew.ts"
import type { Proof } from "./proof.ts"

/** The output. */
export class Screen extends Context.Service<Screen, {
  readonly live: boolean
  /** Puts lines in the place of those that were drawn before. */
  readonly draw: (lines: ReadonlyArray<string>) => Effect.Effect<void>
  /** Lines that stay. */
  readonly print: (...lines: ReadonlyArray<string>) => Effect.Effect<void>
}>()("examples/fleet/Screen") {
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function*() {
      const terminal = yield* Terminal.Terminal
      const live = yield* (yield* Stdio.Stdio).stdoutIsTerminal
      const display = (text: string) => Effect.ignore(terminal.display(text))
      if (live) {
        process.once("exit", () => process.stdout.write("\u001b[?25h"))
        yield* display("\u001b[?25l")
      }
      let drawn = 0
      const draw = Effect.fnUntraced(function*(lines: ReadonlyArray<string>) {
        const columns = (yield* terminal.columns) || 80
        const rows = (yield* terminal.rows) || 24
        // what does not fit would scroll away, and could not be overwritten
        const shown = lines.slice(0, rows - 1).map((line, index) => {
          const text = fit(line, columns - 1)
          return `${index === 0 ? bold(text) : text}\u001b[K\n`
        })
        yield* display(`${drawn > 0 ? `\u001b[${drawn}A` : ""}\r${shown.join("")}\u001b[J`)
        drawn = shown.length
      })
      return {
        live,
        draw: (lines) => live ? draw(lines) : Effect.void,
        print: (...lines) =>
          Effect.forEach(lines, (line) => Console.log(live ? `\r\u001b[K${line}` : line), { discard: true })
      }
    })
  )
}

/** The state of a fleet at one time. */
export interface State {
  readonly members: ReadonlyArray<Member>
  readonly counts: Pick<Docket.Counts, "scheduled" | "ready" | "running"> | undefined
  readonly done: number
  /** Since the start, in milliseconds. */
  readonly elapsed: number
}

/** Rates of totals over the latest second and a half, by name. */
export const makeRates = () => {
  const samples: Array<{ readonly at: number; readonly totals: ReadonlyMap<string, number> }> = []
  return (at: number, totals: ReadonlyMap<string, number>) => {
    samples.push({ at, totals })
    while (samples.length > 2 && samples[1]!.at <= at - 1500) samples.shift()
    const first = samples[0]!
    const seconds = Math.max(0.001, (at - first.at) / 1000)
    return (name: string) => ((totals.get(name) ?? 0) - (first.totals.get(name) ?? 0)) / seconds
  }
}

export const totalsOf = ({ done, members }: State): ReadonlyMap<string, number> => {
  const added = members.filter(({ role }) => role === "producer").reduce((sum, { total }) => sum + total, 0)
  return new Map([...members.map(({ name, total }) => [name, total] as const), ["added", added], ["done", done]])
}

/** What a share of the values does not exceed. */
export const quantile = (values: ReadonlyArray<number>, share: number): number | undefined =>
  values.toSorted((a, b) => a - b)[Math.max(0, Math.ceil(values.length * share) - 1)]

const millis = (value: number | undefined): string => value === undefined ? "" : `${number(value)} ms`

export const clock = (elapsed: number): string => {
  const seconds = Math.floor(elapsed / 1000)
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`
}

const row = (name: string, pid: string, state: string, total: string, rate: string, late: string): string =>
  `${name.padEnd(14)}${pid.padStart(8)}  ${state.padEnd(10)}${total.padStart(11)}${rate.padStart(9)}${
    late.padStart(12)
  }`

const head = row("process", "pid", "state", "runs", "/s", "p99 late")
const line = "─".repeat(head.length)

const levels = "▁▂▃▄▅▆▇█"

/** A small chart. */
export const sparkline = (values: ReadonlyArray<number>): string => {
  const top = Math.max(1, ...values)
  return values.map((value) => levels[Math.min(levels.length - 1, Math.floor(value / top * (levels.length - 1) + 0.5))])
    .join("")
}

/** The table. `history`: earlier rates of what was done. */
export const table = (
  state: State,
  rate: (name: string) => number,
  history: ReadonlyArray<number>
): ReadonlyArray<string> => {
  const { counts, done, elapsed, members } = state
  const added = totalsOf(state).get("added") ?? 0
  const text = (one: Member) =>
    row(
      one.name,
      String(one.pid),
      one.state,
      number(one.total),
      hasEnded(one) ? "" : number(rate(one.name)),
      one.role === "worker" && !hasEnded(one) ? millis(quantile(one.late, 0.99)) : ""
    )
  const docket = counts === undefined
    ? "the store does not answer"
    : `scheduled ${number(counts.scheduled)} · ready ${number(counts.ready)} · running ${
      number(counts.running)
    } · done ${number(done)}`
  // the processes come last: a terminal of few lines shows as many of them as it can
  return [
    `fleet  ${clock(elapsed)}  kill -9 a worker and nothing is lost  Ctrl-C stops all`,
    "",
    `docket   ${docket}`,
    `added    ${number(added).padEnd(12)}${number(rate("added"))}/s`,
    `done     ${number(done).padEnd(12)}${`${number(rate("done"))}/s`.padEnd(10)}${sparkline(history)}`,
    "",
    head,
    line,
    ...members.filter(({ role }) => role === "producer").map(text),
    ...members.filter(({ role }) => role === "worker").map(text)
  ]
}

/** The state in a line. */
export const plain = (state: State, rate: (name: string) => number): string => {
  const { counts, done, elapsed, members } = state
  const late = quantile(members.flatMap((one) => hasEnded(one) ? [] : one.late), 0.99)
  return [
    clock(elapsed),
    `added ${number(totalsOf(state).get("added") ?? 0)} (${number(rate("added"))}/s)`,
    `done ${number(done)} (${number(rate("done"))}/s)`,
    ...(counts === undefined
      ? ["the store does not answer"]
      : [
        `scheduled ${number(counts.scheduled)}`,
        `ready ${number(counts.ready)}`,
        `running ${number(counts.running)}`
      ]),
    ...(late === undefined ? [] : [`p99 late ${millis(late)}`])
  ].join("  ")
}

/** What came out of it. */
export const summary = (
  { added, again, byWorker, done, missing, twice }: Proof,
  { elapsed, late, producers }: {
    readonly elapsed: number
    readonly late: ReadonlyArray<number>
    readonly producers: number
  },
  emphasize: (text: string) => string
): ReadonlyArray<string> => [
  "",
  emphasize(
    added === 0
      ? "Nothing was added"
      : missing === 0 && twice === 0
      ? `Everything that was added was done exactly once: ${plural(done, "run")}`
      : `Not everything was done exactly once: ${number(missing)} missing, ${number(twice)} twice`
  ),
  "",
  `added     ${plural(added, "key")} by ${plural(producers, "producer")}`,
  `done      ${plural(done, "key")} once, ${number(missing)} never, ${number(twice)} twice`,
  `begun     ${number(again)} of them again, after their worker had fallen silent`,
  ...Array.from(byWorker).toSorted(([a], [b]) => a < b ? -1 : 1).map(([name, count]) =>
    `          ${number(count)} by ${name}`
  ),
  `speed     ${number(done / Math.max(0.001, elapsed / 1000))}/s over ${clock(elapsed)}`,
  ...(late.length === 0
    ? []
    : [
      `lateness  p50 ${millis(quantile(late, 0.5))} · p99 ${millis(quantile(late, 0.99))} · max ${
        millis(quantile(late, 1))
      }`
    ])
]
