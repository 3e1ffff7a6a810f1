/**
 * A plan as a text table: what lies where, and a sum.
 *
 * Nothing in it depends on the machine: times are in UTC, and a text that could break a line is shown as JSON.
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import type * as Agenda from "../Agenda.ts"
import type * as Task from "../Task.ts"
import { type Bucket, type Load, load, timeOf } from "./agendaLoad.ts"

/** Tasks that the sum names; a plan may have many. */
const shownTasks = 4
/** A key may have thousands of characters. */
const longestText = 60

const fraction = (millis: number, isWhole: boolean): string =>
  isWhole ? "" : `.${String(millis % 1000).padStart(3, "0")}`

/** `0:00:30.303`, or `3d 0:00:30`. */
const clock = (millis: number, isWhole: boolean): string => {
  const seconds = Math.floor(millis / 1000)
  const days = Math.floor(seconds / 86_400)
  const two = (value: number) => String(value).padStart(2, "0")
  return `${days === 0 ? "" : `${days}d `}${Math.floor(seconds / 3600) % 24}:${two(Math.floor(seconds / 60) % 60)}:${
    two(seconds % 60)
  }${fraction(millis, isWhole)}`
}

/** A time in UTC, without the milliseconds if it has none. */
export const iso = (time: number, isWhole = time % 1000 === 0): string => {
  const text = DateTime.formatIso(DateTime.makeUnsafe(time))
  return isWhole ? text.replace(/\.\d{3}Z$/, "Z") : text
}

/** A length in words. */
export const words = (millis: number): string => Duration.format(Duration.millis(millis))

/** How many there are. */
export const count = (of: number, noun: string): string => `${of.toLocaleString("en")} ${noun}${of === 1 ? "" : "s"}`

// Neither ends a line nor changes its direction, and XML can hold it.
const harmless = String.raw`\p{L}\p{M}\p{N}\p{P}\p{S}`
const isHarmless = new RegExp(`^[${harmless}]+$`, "u")
const harmful = new RegExp(`[^${harmless} ]`, "gu")

/** How high the load gets. */
export const peak = ({ from, total }: Bucket, step: number): string =>
  `at most ${total.toLocaleString("en")} in ${words(step)}, first at ${iso(from)}`

/** A text of a user, in one line and not too long; as JSON where it could be taken for something else. */
export const inline = (text: string): string => {
  const line = isHarmless.test(text)
    ? text
    : JSON.stringify(text).replaceAll(harmful, (one) => `\\u{${one.codePointAt(0)!.toString(16)}}`)
  const characters = Array.from(line)
  return characters.length <= longestText ? line : `${characters.slice(0, longestText - 1).join("")}…`
}

const summary = (items: number, { busiest, from, step, tasks, to }: Load): ReadonlyArray<string> => {
  if (busiest === undefined) return ["0 items"]
  const named = tasks.slice(0, shownTasks).map((task) => `${inline(task.name)} ${task.count.toLocaleString("en")}`)
  const others = tasks.length > shownTasks ? [count(tasks.length - shownTasks, "other task")] : []
  return [
    `${count(items, "item")} over ${words(to - from)}, from ${iso(from)} to ${iso(to)}`,
    `${[...named, ...others].join(", ")}; ${peak(busiest, step)}`
  ]
}

/** A plan as a table of at most `rows` items. */
export const table = (plan: Agenda.Plan<Task.Any>, rows: number): string => {
  const { slots } = plan
  const loaded = load(plan)
  const { from } = loaded
  const hidden = Math.max(0, slots.length - rows)
  const top = hidden === 0 ? slots.length : Math.ceil(rows / 2)
  const shown = [...slots.slice(0, top), ...slots.slice(top + hidden)]
  const isWhole = shown.every((slot) => timeOf(slot) % 1000 === 0 && from % 1000 === 0)
  const head = ["index", "offset", "time", "task", "key"]
  const cells = shown.map((slot) => [
    String(slot.index),
    `+${clock(timeOf(slot) - from, isWhole)}`,
    iso(timeOf(slot), isWhole),
    inline(slot.task),
    inline(slot.key)
  ])
  const widths = head.map((title, column) =>
    cells.reduce((width, row) => Math.max(width, row[column]!.length), title.length)
  )
  // numbers end where they align
  const line = (row: ReadonlyArray<string>) =>
    row.map((cell, column) => column < 2 ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!)).join("  ")
      .trimEnd()
  const body = cells.map(line)
  if (hidden > 0) body.splice(top, 0, `${"…".padStart(widths[0]!)}  ${hidden.toLocaleString("en")} more`)
  return [...(slots.length === 0 ? [] : [line(head), ...body, ""]), ...summary(slots.length, loaded)].join("\n")
}
