/**
 * Helpers of the tests of the file report: folders, the program as a process, and what `wc` and `sha256sum` say.
 */
import { Effect, type Scope } from "effect"
import { execFile, execFileSync, spawn } from "node:child_process"
import * as fs from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { toBytes } from "../src/fileReport/files.ts"
import type { Report } from "../src/fileReport/report.ts"

const main = fileURLToPath(new URL("../src/fileReport/main.ts", import.meta.url))
export const limit = 120_000

/** A folder that is removed at the end; by `rm`, which copes with paths that are too long for Node. */
export const folder: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync(() => fs.realpathSync(fs.mkdtempSync(join(tmpdir(), "file-report-")))),
  (path) => Effect.sync(() => execFileSync("rm", ["-rf", path]))
)

interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export const command = [process.execPath, "--conditions=@effect-docket/source", main]

/** The program in `cwd`. It does not outlive the test. */
export const start = (cwd: string, args: ReadonlyArray<string>, [file, ...before] = command) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => {
        const child = spawn(file!, [...before, ...args], { cwd, stdio: ["ignore", "pipe", "pipe"] })
        const output = { stdout: "", stderr: "" }
        const listeners = new Set<() => void>()
        for (const name of ["stdout", "stderr"] as const) {
          child[name].setEncoding("utf8").on("data", (text: string) => {
            output[name] += text
            listeners.forEach((listener) => listener())
          })
        }
        const ended = new Promise<Ended>((resolve) => child.once("close", (code) => resolve({ code, ...output })))
        return { child, output, listeners, ended }
      }),
      ({ child, ended }) =>
        Effect.promise(() => {
          child.kill("SIGKILL")
          return ended
        })
    ),
    ({ child, ended, listeners, output }) => ({
      ended: Effect.promise(() => ended),
      signal: (signal: NodeJS.Signals) => Effect.sync(() => child.kill(signal)),
      /** Waits until stdout makes it true. */
      until: (holds: (stdout: string) => boolean) =>
        Effect.callback<void>((resume) => {
          const listener = () => {
            if (!holds(output.stdout)) return
            listeners.delete(listener)
            resume(Effect.void)
          }
          listeners.add(listener)
          void ended.then(({ stderr, stdout }) => resume(Effect.die(new Error(`it ended: ${stdout}${stderr}`))))
          listener()
        })
    })
  )

export const run = (cwd: string, ...args: ReadonlyArray<string>) =>
  Effect.flatMap(start(cwd, args), (program) => program.ended)

export const read = (file: string): Report => JSON.parse(fs.readFileSync(file, "utf8")) as Report

/** The output of `xargs -0` with these arguments. Without blocking: other tests have to react to their programs. */
const xargs = (input: Buffer, ...args: ReadonlyArray<string>) =>
  Effect.callback<string, Error>((resume) => {
    const options = { env: { ...process.env, LC_ALL: "C" }, maxBuffer: 2 ** 28 }
    const child = execFile("xargs", ["-0", ...args], options, (error, stdout) => {
      resume(error === null ? Effect.succeed(stdout) : Effect.fail(error))
    })
    child.stdin!.end(input)
  })

/** What `wc` and `sha256sum` say of the files of a report. */
export const reference = Effect.fnUntraced(function*({ files, root }: Report) {
  const input = Buffer.concat(files.flatMap(({ path }) => [toBytes(root, path), Buffer.from([0])]))
  const counts = yield* xargs(input, "sh", "-c", `for f; do wc -lwc < "$f"; done`, "sh")
  const sums = (yield* xargs(input, "sha256sum", "-z", "--")).split("\0")
  return counts.trimEnd().split("\n").map((line, index): Report["files"][number] => {
    const [lines = -1, words = -1, bytes = -1] = line.trim().split(/\s+/).map(Number)
    return { path: files[index]!.path, sha256: sums[index]!.slice(0, 64), bytes, lines, words }
  })
})
