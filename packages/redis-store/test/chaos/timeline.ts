/**
 * The picture of an act: bodies per second, when each process was there, what hit it, and bodies that ran again.
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
  const { calm, drained, faults, from, lines, lives, options } = report
  const seconds = Math.max(1, Math.ceil((drained - from) / 1000))
  const x = (at: number) => left + Math.max(0, Math.min(1, (at - from) / (seconds * 1000))) * width
  const parts = [
    text(left, top + 10, `${options.servers}, seed ${options.seed}`, "font-weight=\"600\"")
  ]
  // bodies per second
  const base = top + 20 + height
  const counts = Array.from({ length: seconds }, () => 0)
  for (const line of lines) {
    if (line.tag !== "begin") continue
    const second = Math.floor((line.at - from) / 1000)
    if (second >= 0 && second < seconds) counts[second]!++
  }
  const most = Math.max(1, ...counts)
  const step = width / seconds
  const points = counts.flatMap((count, index) => {
    const y = base - count / most * height
    return [
      `${(left + index * step).toFixed(1)},${y.toFixed(1)}`,
      `${(left + (index + 1) * step).toFixed(1)},${y.toFixed(1)}`
    ]
  })
  parts.push(
    `<polygon points="${left},${base} ${points.join(" ")} ${left + width},${base}" fill="#bfdbfe"/>`,
    text(left - 6, base, "bodies", "text-anchor=\"end\""),
    text(left - 6, base - height + 8, `${most} / s`, "text-anchor=\"end\"")
  )
  // rows
  const names = ["server", ...new Set(lives.map(({ name }) => name).toSorted())]
  let y = base + 8
  for (const name of names) {
    parts.push(text(left - 6, y + 14, name, "text-anchor=\"end\""))
    const bars = name === "server" ? [{ from, to: drained }] : lives.filter((life) => life.name === name)
    for (const bar of bars) {
      const [x1, x2] = [x(bar.from), x(bar.to)]
      parts.push(`<rect x="${x1.toFixed(1)}" y="${y + 7}" width="${(x2 - x1).toFixed(1)}" height="8" fill="#d1d5db"/>`)
    }
    for (const fault of faults.filter(({ target }) => target === name)) {
      const [x1, x2] = [x(fault.from), x(fault.to)]
      parts.push(
        `<rect x="${x1.toFixed(1)}" y="${y + 3}" width="${
          Math.max(3, x2 - x1).toFixed(1)
        }" height="16" rx="1.5" fill="${colours[fault.kind]}" fill-opacity="0.75"><title>${fault.kind}, ${
          fault.to - fault.from
        } ms</title></rect>`
      )
    }
    y += row
  }
  // axis and legend
  const every = [1, 2, 5, 10, 30, 60, 120, 300].find((n) => seconds / n <= 15) ?? 600
  for (let second = 0; second <= seconds; second += every) {
    const at = left + second * step
    parts.push(
      `<line x1="${at.toFixed(1)}" y1="${top + 20}" x2="${
        at.toFixed(1)
      }" y2="${y}" stroke="#e5e7eb" stroke-width="0.6"/>`,
      text(at, y + 12, `${second} s`, "text-anchor=\"middle\"")
    )
  }
  parts.push(
    `<line x1="${x(calm).toFixed(1)}" y1="${top + 20}" x2="${
      x(calm).toFixed(1)
    }" y2="${y}" stroke="#16a34a" stroke-dasharray="4 3"/>`,
    text(x(calm) + 3, top + 28, "calm", "fill=\"#16a34a\"")
  )
  y += 30
  let at = left
  for (const kind of new Set(faults.map(({ kind }) => kind).toSorted())) {
    const needs = 24 + kind.length * 6
    if (at + needs > left + width) {
      at = left
      y += 16
    }
    parts.push(
      `<rect x="${at}" y="${y - 9}" width="10" height="10" fill="${colours[kind]}" fill-opacity="0.75"/>`,
      text(at + 14, y, kind)
    )
    at += needs
  }
  return { body: parts.join("\n"), bottom: y }
}
