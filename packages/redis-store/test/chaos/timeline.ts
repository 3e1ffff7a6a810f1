/**
 * The picture of an act: bodies per second, when each process was there, and what hit it. `draw` makes an image, `sketch` the
 * same for a terminal.
 */
import type { Happened, Report } from "./act.ts"

const width = 1000
const left = 110
const row = 22
const height = 70

const colours: { readonly [kind in Happened["kind"]]: string } = {
  "server killed": "#b91c1c",
  "master killed": "#b91c1c",
  "Sentinel killed": "#ea580c",
  "server stands still": "#7c3aed",
  "scripts flushed": "#0f766e",
  "clients killed": "#be185d",
  "worker killed": "#b91c1c",
  "worker stands still": "#7c3aed",
  "worker asked to end": "#a16207",
  "producer killed": "#b91c1c",
  "clock jumps": "#0369a1",
  "connections cut": "#be185d",
  "network slow": "#65a30d",
  "answers dropped": "#c2410c",
  "half open": "#4338ca",
  "unreachable": "#111827"
}

/** How many seconds it took. */
const lengthOf = ({ drained, from }: Report): number => Math.max(1, Math.ceil((drained - from) / 1000))

/** How many bodies began in each of so many parts of an act. */
const bodiesIn = (report: Report, parts: number): ReadonlyArray<number> => {
  const part = lengthOf(report) * 1000 / parts
  const counts = Array.from({ length: parts }, () => 0)
  for (const line of report.lines) {
    const index = Math.floor((line.at - report.from) / part)
    if (line.tag === "begin" && index >= 0 && index < parts) counts[index]!++
  }
  return counts
}

interface Bar {
  readonly from: number
  readonly to: number
}

/** Whom something hit, or might have hit: when it was there, and the faults. */
const rowsOf = (report: Report) => {
  const { drained, faults, from, lives } = report
  const names = ["server", ...new Set(lives.map(({ name }) => name).toSorted())]
  return names.map((name) => {
    const bars: ReadonlyArray<Bar> = name === "server"
      ? [{ from, to: drained }]
      : lives.filter((life) => life.name === name)
    return { name, bars, faults: faults.filter(({ target }) => target === name) }
  })
}

// ---------------------------------------------------------------------------------------------------------------------
// for a terminal
// ---------------------------------------------------------------------------------------------------------------------

const columns = 80
const levels = " ▁▂▃▄▅▆▇█"

/** Lines of text: a row of bars, and for each process `─` while it is there and `█` while something hits it. */
export const sketch = (report: Report): ReadonlyArray<string> => {
  const step = lengthOf(report) * 1000 / columns
  const counts = bodiesIn(report, columns)
  const most = Math.max(1, ...counts)
  const bodies = counts.map((count) => levels[Math.ceil(count / most * (levels.length - 1))]).join("")
  const rows = rowsOf(report).map(({ bars, faults, name }) => {
    const signs = Array.from({ length: columns }, (_, index) => {
      const at = report.from + index * step
      const isHere = ({ from, to }: Bar) => from < at + step && to >= at
      return faults.some(isHere) ? "█" : bars.some(isHere) ? "─" : " "
    })
    return `${name.padEnd(13)}${signs.join("")}`
  })
  return [`${"bodies".padEnd(13)}${bodies}`, ...rows].map((line) => line.trimEnd())
}

// ---------------------------------------------------------------------------------------------------------------------
// as an image
// ---------------------------------------------------------------------------------------------------------------------

const text = (x: number, y: number, content: string, more = ""): string =>
  `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${more}>${content}</text>`

/** Draws acts, one below the other. */
export const draw = (reports: ReadonlyArray<Report>): string => {
  const parts: Array<string> = []
  let top = 10
  for (const report of reports) {
    const { body, bottom } = act(report, top)
    parts.push(body)
    top = bottom + 24
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${
    left + width + 20
  } ${top}" font-family="system-ui, sans-serif" font-size="11" fill="#374151">
<rect width="100%" height="100%" fill="#ffffff"/>
${parts.join("\n")}
</svg>
`
}

const act = (report: Report, top: number): { readonly body: string; readonly bottom: number } => {
  const { calm, faults, from, options } = report
  const seconds = lengthOf(report)
  const x = (at: number) => left + Math.max(0, Math.min(1, (at - from) / (seconds * 1000))) * width
  const base = top + 20 + height
  const rows = rowsOf(report)
  const end = base + 8 + rows.length * row
  const below = legend(faults, end + 30)
  return {
    body: [
      text(left, top + 10, `${options.servers}, seed ${options.seed}`, "font-weight=\"600\""),
      ...histogram(bodiesIn(report, seconds), base),
      ...rows.flatMap((one, index) => line(one, base + 8 + index * row, x)),
      ...axis(seconds, top + 20, end),
      `<line x1="${x(calm).toFixed(1)}" y1="${top + 20}" x2="${
        x(calm).toFixed(1)
      }" y2="${end}" stroke="#16a34a" stroke-dasharray="4 3"/>`,
      text(x(calm), top + 14, "calm", "fill=\"#16a34a\" text-anchor=\"middle\""),
      ...below.parts
    ].join("\n"),
    bottom: below.bottom
  }
}

/** Bodies per second, on a base line. */
const histogram = (counts: ReadonlyArray<number>, base: number): ReadonlyArray<string> => {
  const most = Math.max(1, ...counts)
  const step = width / counts.length
  const points = counts.flatMap((count, index) => {
    const y = base - count / most * height
    return [
      `${(left + index * step).toFixed(1)},${y.toFixed(1)}`,
      `${(left + (index + 1) * step).toFixed(1)},${y.toFixed(1)}`
    ]
  })
  return [
    `<polygon points="${left},${base} ${points.join(" ")} ${left + width},${base}" fill="#bfdbfe"/>`,
    text(left - 6, base, "bodies", "text-anchor=\"end\""),
    text(left - 6, base - height + 8, `${most} / s`, "text-anchor=\"end\"")
  ]
}

/** When a process was there, and what hit it. */
const line = (
  { bars, faults, name }: ReturnType<typeof rowsOf>[number],
  y: number,
  x: (at: number) => number
): ReadonlyArray<string> => {
  const box = ({ from, to }: Bar, least: number) =>
    `x="${x(from).toFixed(1)}" width="${Math.max(least, x(to) - x(from)).toFixed(1)}"`
  return [
    text(left - 6, y + 14, name, "text-anchor=\"end\""),
    ...bars.map((bar) => `<rect ${box(bar, 0)} y="${y + 7}" height="8" fill="#d1d5db"/>`),
    ...faults.map((fault) =>
      `<rect ${box(fault, 3)} y="${y + 3}" height="16" rx="1.5" fill="${
        colours[fault.kind]
      }" fill-opacity="0.75"><title>${fault.kind}, ${fault.to - fault.from} ms</title></rect>`
    )
  ]
}

/** A line each second or so, and its number below. */
const axis = (seconds: number, top: number, bottom: number): ReadonlyArray<string> => {
  const every = [1, 2, 5, 10, 30, 60, 120, 300].find((n) => seconds / n <= 15) ?? 600
  return Array.from({ length: Math.floor(seconds / every) + 1 }, (_, index) => index * every).flatMap((second) => {
    const at = left + second * width / seconds
    return [
      `<line x1="${at.toFixed(1)}" y1="${top}" x2="${
        at.toFixed(1)
      }" y2="${bottom}" stroke="#e5e7eb" stroke-width="0.6"/>`,
      text(at, bottom + 12, `${second} s`, "text-anchor=\"middle\"")
    ]
  })
}

/** The colours of the faults that there are, from `top` down. */
const legend = (
  faults: ReadonlyArray<Happened>,
  top: number
): { readonly parts: ReadonlyArray<string>; readonly bottom: number } => {
  const parts: Array<string> = []
  let x = left
  let y = top
  for (const kind of new Set(faults.map(({ kind }) => kind).toSorted())) {
    const needs = 24 + kind.length * 6
    if (x + needs > left + width) {
      x = left
      y += 16
    }
    parts.push(
      `<rect x="${x}" y="${y - 9}" width="10" height="10" fill="${colours[kind]}" fill-opacity="0.75"/>`,
      text(x + 14, y, kind)
    )
    x += needs
  }
  return { parts, bottom: y }
}
