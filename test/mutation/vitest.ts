/**
 * Tests in a copy of the repository, run as a process of their own.
 */
import { Effect } from "effect"
import { spawn } from "node:child_process"
import { existsSync, readFileSync, rmSync } from "node:fs"
import * as path from "node:path"
import { patternOf, type Tests } from "./mutation.ts"

/** How tests ended, by file and full name. */
export interface Ended {
  readonly passed: ReadonlyArray<string>
  readonly failed: ReadonlyArray<string>
  /** What happened outside of tests: a file that does not load, an error that nobody handled. */
  readonly errors: ReadonlyArray<string>
}

/** What vitest writes, as far as it is read here. */
interface Report {
  readonly testResults: ReadonlyArray<{
    readonly name: string
    readonly message: string
    readonly assertionResults: ReadonlyArray<{ readonly fullName: string; readonly status: string }>
  }>
}

const read = (folder: string, file: string, code: number | null): Ended => {
  if (!existsSync(file)) return { passed: [], failed: [], errors: ["vitest ended without a report"] }
  const { testResults } = JSON.parse(readFileSync(file, "utf8")) as Report // as vitest documents it
  const of = (status: string) =>
    testResults.flatMap(({ assertionResults, name }) =>
      assertionResults
        .filter((test) => test.status === status)
        .map(({ fullName }) => `${path.relative(folder, name)}: ${fullName.trim()}`)
    )
  const failed = of("failed")
  const messages = testResults.flatMap(({ assertionResults, message }) =>
    message !== "" && !assertionResults.some(({ status }) => status === "failed") ? [message.split("\n")[0]!] : []
  )
  const errors = messages.length === 0 && failed.length === 0 && code !== 0 ? ["an error outside of tests"] : messages
  return { passed: of("passed"), failed, errors }
}

/**
 * Runs tests of one file; `undefined` if they have not ended in time. When it is interrupted, or the time is up, their
 * process group is killed, and what they had started ends with it.
 */
export const runTests = (
  folder: string,
  tests: ReadonlyArray<Tests>,
  limit: number
): Effect.Effect<Ended | undefined> => {
  const report = path.join(folder, "tmp", "report.json")
  const pattern = Array.from(new Set(tests.map(patternOf)), (one) => `(?:${one})`).join("|")
  const args = [
    path.join(folder, "node_modules", "vitest", "vitest.mjs"),
    "run",
    `--project=${tests[0]!.project}`,
    `--testNamePattern=${pattern}`,
    "--reporter=json",
    `--outputFile=${report}`,
    tests[0]!.file
  ]
  return Effect.callback<Ended>((resume) => {
    rmSync(report, { force: true })
    const child = spawn(process.execPath, args, {
      cwd: folder,
      detached: true,
      stdio: "ignore",
      env: { ...process.env, TMPDIR: path.join(folder, "tmp") }
    })
    let hasEnded = false
    const ended = new Promise<void>((resolve) => {
      child.once("close", (code) => {
        hasEnded = true
        resume(Effect.sync(() => read(folder, report, code)))
        resolve()
      })
    })
    child.once("error", (error) => resume(Effect.die(error)))
    return Effect.suspend(() => {
      if (hasEnded || child.pid === undefined) return Effect.void
      process.kill(-child.pid, "SIGKILL")
      return Effect.promise(() => ended)
    })
  }).pipe(
    Effect.timeoutOrElse({ duration: limit, orElse: () => Effect.undefined })
  )
}
