/**
 * Ratios as bars, in SVG: how many times as much (or, where less is better, as little) as each other system. The axis is
 * logarithmic, since ratios from 1 to 100 stand side by side; a bar to the left of 1 is a workload that somebody else does
 * better.
 */
import type { Ratio, Results } from "./harness.ts"

const colours = ["#4269d0", "#efb118", "#3ca951"]
const width = 1000
const left = 410
const right = 70
const bar = 13
const gap = 14
const top = 92
const font = "font-family=\"system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif\""

const escape = (text: string): string => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")

const times = (value: number): string => `${value >= 10 ? Math.round(value) : Number(value.toPrecision(2))}×`

/** How many times better. */
const gain = ({ better, ratio }: Ratio): number => better === "less" ? 1 / ratio : ratio

/** A picture of the ratios. Those of a system against itself are left out. */
export const chart = ({ machine, ratios, rows }: Pick<Results, "machine" | "ratios" | "rows">): string => {
  const known = new Set(rows.map(({ workload }) => workload))
  const shown = ratios.filter((ratio) => known.has(ratio.workload) && Number.isFinite(gain(ratio)) && gain(ratio) > 0)
  const systems = Array.from(new Set(shown.map(({ against }) => against)))
  const groups = Map.groupBy(
    shown,
    ({ concurrency, workload }) =>
      concurrency === null || workload.includes("CPU") || workload.includes("commands")
        ? workload
        : `${workload}, concurrency ${concurrency}`
  )
  const ours = Array.from(new Set(rows.map(({ system }) => system).filter((system) => !systems.includes(system))))
  const gains = shown.map(gain)
  const low = Math.log10(Math.min(1, ...gains.map((value) => value * 0.9)))
  const high = Math.log10(Math.max(10, ...gains) * 1.1)
  const x = (value: number): number => left + (Math.log10(value) - low) / (high - low) * (width - left - right)

  const ticks = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000]
    .filter((tick) => Math.log10(tick) >= low && Math.log10(tick) <= high)
    // few labels, and always the 1
    .filter((tick) => high - low < 2 || Number.isInteger(Math.log10(tick)) || tick === 0.5)

  const parts: Array<string> = []
  let y = top
  for (const [workload, members] of groups) {
    const height = members.length * bar
    parts.push(
      `<text x="${left - 12}" y="${y + height / 2 + 4}" text-anchor="end" font-size="12.5" fill="#222">${
        escape(workload)
      }</text>`
    )
    for (const [index, ratio] of members.entries()) {
      const value = gain(ratio)
      const from = Math.min(x(1), x(value))
      const to = Math.max(x(1), x(value))
      parts.push(
        `<rect x="${from.toFixed(1)}" y="${y + index * bar}" width="${Math.max(1, to - from).toFixed(1)}" height="${
          bar - 2
        }" rx="1.5" fill="${colours[systems.indexOf(ratio.against) % colours.length]}"/>`,
        `<text x="${(to + 5).toFixed(1)}" y="${y + index * bar + 9.5}" font-size="10.5" fill="#444">${
          times(value)
        }</text>`
      )
    }
    y += height + gap
  }
  const bottom = y
  const grid = ticks.flatMap((tick) => [
    `<line x1="${x(tick).toFixed(1)}" x2="${x(tick).toFixed(1)}" y1="${top - 8}" y2="${bottom - 4}" stroke="${
      tick === 1 ? "#333" : "#ddd"
    }"/>`,
    `<text x="${x(tick).toFixed(1)}" y="${top - 14}" text-anchor="middle" font-size="11" fill="#555">${tick}×</text>`
  ])
  const legend = systems.map((system, index) => {
    const at = left + index * 220
    return `<rect x="${at}" y="48" width="12" height="12" rx="2" fill="${colours[index % colours.length]}"/><text x="${
      at + 18
    }" y="58.5" font-size="12.5" fill="#222">${escape(system)}</text>`
  })
  const where = [machine["redis"], `Node ${machine["node"]}`, `${machine["cores"]} cores`, machine["cpu"]]
    .filter((part) => part !== undefined && part !== "unknown")
    .join(" · ")
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${bottom + 26}" width="${width}" height="${
    bottom + 26
  }" role="img" ${font}>
<title>${escape(ours.join(", "))} against ${escape(systems.join(", "))}</title>
<rect width="100%" height="100%" fill="#fff"/>
<text x="24" y="30" font-size="17" font-weight="600" fill="#111">How many times better ${
    escape(ours.join(", "))
  } does</text>
<text x="24" y="58.5" font-size="12.5" fill="#555">compared with</text>
${[...legend, ...grid, ...parts].join("\n")}
<text x="24" y="${bottom + 14}" font-size="11" fill="#777">${
    escape(`medians, systems alternated, logarithmic axis · ${where}`)
  }</text>
</svg>
`
}
