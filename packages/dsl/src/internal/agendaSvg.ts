/**
 * A plan as a picture: a timeline with the load as bars, one colour per task, and a mark for each item.
 *
 * It is a text that stands for itself: no script, no font of its own, its own background, so that it can be read on a page
 * of either theme. Its size is bounded: the buckets of the load are, and marks that fall on one spot are one.
 */
import type * as Agenda from "../Agenda.ts"
import type * as Task from "../Task.ts"
import { type Load, load, stepOf, timeOf } from "./agendaLoad.ts"
import { count, inline, iso, peak, words } from "./agendaTable.ts"

const width = 760
const left = 52
const right = width - 28
const barHeight = 150

/** Three times as bright or dark as either background, and told apart by most who see colours differently. */
const colors = ["#4269d0", "#d9730d", "#0c8599", "#9c36b5", "#2f9e44", "#d6336c"] as const
/** For the tasks that are left when the others have theirs. */
const otherColor = "#868e96"

// Classes are prefixed: where the picture is inlined, its style is the style of the whole page.
const style = ".agenda-bg{fill:#ffffff}.agenda-ink{fill:#1f2328}.agenda-dim{fill:#59636e}.agenda-grid{stroke:#d1d9e0}"
  + ".agenda-end{stroke:#59636e}.agenda-shut{fill:#59636e;fill-opacity:.14}"
  + "@media (prefers-color-scheme:dark){.agenda-bg{fill:#0d1117}.agenda-ink{fill:#f0f6fc}.agenda-dim{fill:#9198a1}"
  + ".agenda-grid{stroke:#3d444d}.agenda-end{stroke:#9198a1}.agenda-shut{fill:#9198a1}}"

const escapes: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", "\"": "&quot;" }

/** A text that went through `inline`, which leaves no characters that XML cannot hold. */
const escape = (text: string): string => text.replaceAll(/[&<>"]/g, (character) => escapes[character]!)

const round = (value: number): number => Math.round(value * 100) / 100

type Anchor = "start" | "middle" | "end"

const text = (
  x: number,
  y: number,
  kind: "ink" | "dim",
  content: string,
  anchor: Anchor = "start",
  size = 12
): string =>
  `<text class="agenda-${kind}" x="${round(x)}" y="${
    round(y)
  }" font-size="${size}" text-anchor="${anchor}">${content}</text>`

interface Series {
  /** Not escaped. */
  readonly name: string
  readonly color: string
  /** Indices of the tasks in it. */
  readonly tasks: ReadonlyArray<number>
  readonly count: number
}

/** What has a colour of its own: tasks, or the rest of them. */
const seriesOf = ({ tasks }: Load): ReadonlyArray<Series> => {
  const own = tasks.length <= colors.length ? tasks.length : colors.length - 1
  const named = tasks.slice(0, own).map(({ count, name }, index): Series => ({
    name: inline(name),
    color: colors[index]!,
    tasks: [index],
    count
  }))
  const others = tasks.slice(own)
  if (others.length === 0) return named
  const sum = others.reduce((total, task) => total + task.count, 0)
  const indices = others.map((_, index) => own + index)
  return [...named, { name: count(others.length, "other task"), color: otherColor, tasks: indices, count: sum }]
}

interface Entry {
  readonly label: string
  /** The attributes of its spot. */
  readonly look: string
}

/** The legend, in as many lines as it needs; the widths of texts are those of common fonts. */
const legendOf = (entries: ReadonlyArray<Entry>, top: number) => {
  const parts: Array<string> = []
  let x = left
  let y = top
  for (const { label, look } of entries) {
    const length = 34 + label.length * 6.8
    if (x > left && x + length > right) {
      x = left
      y += 20
    }
    parts.push(
      `<rect x="${round(x)}" y="${y - 10}" width="12" height="12" rx="2" ${look}/>`,
      text(x + 18, y, "ink", escape(label))
    )
    x += length
  }
  return { svg: parts.join("\n"), bottom: y }
}

/** The height of the highest grid line, and how far they are apart: whole numbers that read well. */
const scaleOf = (most: number) => {
  const step = [1, 2, 5].flatMap((digit) => Array.from({ length: 15 }, (_, power) => digit * 10 ** power))
    .toSorted((a, b) => a - b)
    .find((step) => most / step <= 4)!
  return { step, top: Math.max(1, Math.ceil(most / step)) * step }
}

/** A plan as a picture. */
export const svg = (plan: Agenda.Plan<Task.Any>): string => {
  const shown = load(plan)
  const { buckets, busiest, closed, from, step, tasks, to } = shown
  const span = Math.max(1, to - from)
  const series = seriesOf(shown)
  const x = (time: number) => left + ((time - from) / span) * (right - left)

  const title = `${count(plan.length, "item")} over ${words(to - from)}`
  const subtitle = busiest === undefined
    ? "nothing to schedule"
    : peak(busiest, step)
  const legend = legendOf([
    ...series.map(({ color, count, name }) => ({
      label: `${name} (${count.toLocaleString("en")})`,
      look: `fill="${color}"`
    })),
    ...(closed.length === 0 ? [] : [{ label: "closed", look: "class=\"agenda-shut\"" }])
  ], 76)
  const top = legend.bottom + 26
  const base = top + barHeight
  const height = base + 68

  const scale = scaleOf(busiest?.total ?? 1)
  const y = (items: number) => base - (items / scale.top) * barHeight
  const grid = Array.from({ length: scale.top / scale.step + 1 }, (_, index) => index * scale.step).map((items) =>
    `<line class="agenda-grid" x1="${left}" y1="${round(y(items))}" x2="${right}" y2="${round(y(items))}"/>`
    + text(left - 8, y(items) + 4, "dim", items.toLocaleString("en"), "end")
  )
  const shut = closed.filter((gap) => x(gap.to) - x(gap.from) >= 1).map((gap) =>
    `<rect class="agenda-shut" x="${round(x(gap.from))}" y="${top}" width="${
      round(x(gap.to) - x(gap.from))
    }" height="${barHeight}"/>`
  )
  const bars = buckets.filter(({ total }) => total > 0).map((bucket) => {
    const from = x(bucket.from)
    const length = Math.max(1, x(bucket.to) - from)
    const gap = length > 4 ? 1 : 0
    let below = 0
    const parts = series.flatMap(({ color, tasks }) => {
      const items = tasks.reduce((sum, index) => sum + bucket.counts[index]!, 0)
      if (items === 0) return []
      below += items
      return `<rect x="${round(from + gap / 2)}" y="${round(y(below))}" width="${round(length - gap)}" height="${
        round((items / scale.top) * barHeight)
      }" fill="${color}"/>`
    })
    return `<g><title>${iso(bucket.from)} to ${iso(bucket.to)}: ${count(bucket.total, "item")}</title>${
      parts.join("")
    }</g>`
  })
  const marks = series.map(({ color, tasks: indices }) => {
    const names = new Set(indices.map((index) => tasks[index]!.name))
    const spots = new Set(
      plan.slots.filter((slot) => names.has(slot.task)).map((slot) => Math.round(x(timeOf(slot)) * 2) / 2)
    )
    return `<path d="${Array.from(spots, (spot) => `M${spot} ${base + 3}v8`).join("")}" stroke="${color}"/>`
  })
  const tick = stepOf(span, 8)
  const ticks = Array.from({ length: Math.floor(span / tick) + 1 }, (_, index) => index * tick).map((offset) =>
    text(x(from + offset), base + 28, "dim", offset === 0 ? "0" : `+${words(offset)}`, "middle")
  )
  const ends = [from, to].map((time, index) =>
    `<line class="agenda-end" x1="${round(x(time))}" y1="${top - 8}" x2="${round(x(time))}" y2="${
      base + 12
    }" stroke-dasharray="3 3"/>`
    + text(x(time), base + 50, "ink", iso(time), index === 0 ? "start" : "end")
  )
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="${title}; ${subtitle}" font-family="system-ui,sans-serif">`,
    `<title>${title}</title>`,
    `<style>${style}</style>`,
    `<rect class="agenda-bg" width="${width}" height="${height}" rx="6"/>`,
    text(left, 32, "ink", title, "start", 16),
    text(left, 52, "dim", subtitle),
    legend.svg,
    ...shut,
    ...grid,
    ...bars,
    ...marks,
    ...ticks,
    ...ends,
    "</svg>",
    ""
  ].join("\n")
}
