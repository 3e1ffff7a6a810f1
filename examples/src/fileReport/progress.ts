/**
 * The terminal: one line that is redrawn while work goes on, and lines that stay. Shown here: progress of any docket, made
 * of nothing but its events.
 */
import { Docket, Progress } from "@effect-docket/dsl"
import { Clock, Console, Context, Effect, Layer, Schedule, Schema, Stdio, Stream, Terminal } from "effect"
import { bold, fit, number, plural } from "../shared/text.ts"
import type { Bold } from "./report.ts"

const clearLine = "\r\u001b[K"
const hideCursor = "\u001b[?25l"
const showCursor = "\u001b[?25h"

/** Output. With `json`, stdout is for the report alone and everything else goes to stderr. */
export class Screen extends Context.Service<Screen, {
  readonly live: boolean
  readonly columns: Effect.Effect<number>
  /** Redraws the live line. */
  readonly draw: (text: string) => Effect.Effect<void>
  /** A line that stays. */
  readonly line: (text: string) => Effect.Effect<void>
  /** A report that was written: in full, or in a line if one was shown before. */
  readonly result: (
    json: string,
    counted: number,
    summary: (columns: number, bold: Bold) => ReadonlyArray<string>
  ) => Effect.Effect<void>
}>()("examples/fileReport/Screen") {
  static readonly layer = (options: { readonly json: boolean; readonly report: string }) =>
    Layer.effect(this, make(options))
}

const make = Effect.fnUntraced(function*({ json, report }: { readonly json: boolean; readonly report: string }) {
  const terminal = yield* Terminal.Terminal
  const live = !json && (yield* (yield* Stdio.Stdio).stdoutIsTerminal)
  const columns = Effect.map(terminal.columns, (columns) => columns > 0 ? columns : 80)
  const display = (text: string) => Effect.ignore(terminal.display(text))
  if (live) {
    // an exit handler, because it also runs when a second signal stops the process at once
    process.once("exit", () => process.stdout.write(clearLine + showCursor))
    yield* display(hideCursor)
  }
  const line = (text: string) =>
    live ? display(`${clearLine}${text}\n`) : json ? Console.error(text) : Console.log(text)
  let shown = false
  return Screen.of({
    live,
    columns,
    draw: (text) => live ? display(clearLine + text) : Effect.void,
    line,
    result: Effect.fnUntraced(function*(text, counted, summary) {
      if (json) yield* Console.log(text.trimEnd())
      else if (!shown) { for (const one of summary(yield* columns, live ? bold : String)) yield* line(one) }
      if (shown) {
        yield* line(`counted ${plural(counted, "file")}, report written to ${report}`)
      } else yield* line(`${json ? "" : "\n"}report written to ${report}`)
      shown = true
    })
  })
})

const isCounter = Schema.is(Progress.Counter)

/** Follows the runs whose keys begin with `prefix`; a task of the docket `home` reports how many there will be. */
export const layerProgress = (prefix: string, home: Docket.Docket["Service"]) =>
  Layer.effectDiscard(Effect.gen(function*() {
    const screen = yield* Screen
    const docket = yield* Docket.Docket
    const now = yield* Clock.currentTimeMillis
    const seen = { found: 0, done: 0, failed: 0, running: 0, since: now, before: 0, dirty: true }
    const running = new Set<string>()
    const announce = Effect.fnUntraced(function*({ event }: Docket.AnyEvent) {
      if (event._tag !== "Progress" || !isCounter(event.value) || event.value.total === undefined) return
      if (seen.found <= seen.done) Object.assign(seen, { since: yield* Clock.currentTimeMillis, before: seen.done })
      seen.found += event.value.total
      seen.dirty = true
      if (!screen.live) yield* screen.line(`counting ${plural(event.value.total, "file")}`)
    })
    const see = ({ event, key }: Docket.AnyEvent) => {
      if (!key.startsWith(prefix)) return
      if (event._tag === "Started") running.add(key)
      else if (event._tag === "Retrying") running.delete(key)
      else if (event._tag === "Finished") {
        running.delete(key)
        seen.done++
        if (event.exit._tag === "Failure") seen.failed++
      }
      seen.dirty = true
    }
    yield* home.events.pipe(Stream.runForEach(announce), Effect.forkScoped({ startImmediately: true }))
    yield* docket.events.pipe(
      Stream.runForEach((event) => Effect.sync(() => see(event))),
      Effect.forkScoped({ startImmediately: true })
    )
    const describe = (columns: number, at: number): string => {
      const { before, failed, found, since } = seen
      const done = Math.min(seen.done, found) // another process may have counted before the search was over
      if (done === found) return found === 0 ? "searching" : `watching · ${number(done)} counted · Ctrl-C ends`
      const rate = (done - before) / Math.max(0.001, (at - since) / 1000)
      const parts = [
        `${number(done)}/${number(found)}`,
        `${running.size} running`,
        `${number(failed)} failed`,
        ...(rate === 0 ? [] : [`${clock((found - done) / rate)} left`, `${number(rate)}/s`])
      ]
      // a narrow terminal gets fewer of them
      while (parts.length > 1 && parts.join(" · ").length > columns) parts.pop()
      const text = parts.join(" · ")
      const room = columns - text.length - 2
      return room < 10 ? text : `${bar(Math.min(room, 24), done / found)}  ${text}`
    }
    const redraw = Effect.gen(function*() {
      const at = yield* Clock.currentTimeMillis
      const columns = yield* screen.columns
      if (screen.live) yield* screen.draw(fit(describe(columns - 1, at), columns - 1))
      else if (seen.dirty && seen.done < seen.found) yield* screen.line(describe(80, at))
      seen.dirty = false
    })
    yield* Effect.forkScoped(Effect.repeat(redraw, Schedule.spaced(screen.live ? "100 millis" : "1 second")))
  }))

const bar = (width: number, share: number): string => {
  const full = Math.round(width * share)
  return "━".repeat(full) + "─".repeat(width - full)
}

const clock = (seconds: number): string =>
  `${Math.floor(seconds / 60)}:${String(Math.ceil(seconds % 60)).padStart(2, "0")}`
