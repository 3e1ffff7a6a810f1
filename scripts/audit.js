/**
 * Reads what `npm audit --json` says: fails on known vulnerabilities that are high or critical. A registry that is away, or
 * keeps no list of them, says nothing, and that is said.
 */
import { readFileSync } from "node:fs"

const read = () => {
  try {
    return JSON.parse(readFileSync(0, "utf8"))
  } catch {
    return {}
  }
}

/** @param {string} line */
const tell = (line) => process.stdout.write(`${line}\n`)

const { metadata, vulnerabilities = {} } = read()
if (metadata?.vulnerabilities === undefined) {
  tell("not audited: no registry answers")
} else {
  const found = Object.values(vulnerabilities).filter(({ severity }) => severity === "high" || severity === "critical")
  for (const { name, range, severity } of found) tell(`${severity}: ${name} ${range}`)
  tell(`${metadata.dependencies?.total ?? "all"} packages audited, ${found.length} with known high vulnerabilities`)
  process.exitCode = found.length === 0 ? 0 : 1
}
