/**
 * Processes of tests: started in a folder of their own, stopped by their ids, also when the run is interrupted.
 *
 * Each test process has one keeper, a shell in a process group of its own, which is told which processes live. When the
 * test process ends, however it ends, the pipe between them closes; the keeper then kills what is left and removes the folder.
 */
import { Effect, type Scope } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import { mkdirSync, mkdtempSync } from "node:fs"
import { tmpdir } from "node:os"
import * as path from "node:path"

/** Everything of this test process. */
interface Keeper {
  readonly folder: string
  readonly tell: (pids: Iterable<number>) => void
}

// Each line is the whole list of living processes; the last one counts.
const program = `pids=""; while read -r line; do pids="$line"; done; [ -n "$pids" ] && kill -9 $pids; rm -rf "$1"`

const makeKeeper = (): Keeper => {
  const folder = mkdtempSync(path.join(tmpdir(), "docket-redis-"))
  const shell = spawn("sh", ["-c", program, "keeper", folder], { detached: true, stdio: ["pipe", "ignore", "ignore"] })
  shell.unref()
  const input = shell.stdin as typeof shell.stdin & { unref(): void } // a pipe is a socket
  input.unref()
  return { folder, tell: (pids) => input.write(`${Array.from(pids).join(" ")}\n`) }
}

let keeper: Keeper | undefined
let folders = 0
const alive = new Map<number, ChildProcess>()

const keep = (): Keeper => keeper ??= makeKeeper()

/** A folder, removed with the test process. */
export const makeFolder: Effect.Effect<string> = Effect.sync(() => {
  const folder = path.join(keep().folder, String(++folders))
  mkdirSync(folder)
  return folder
})

/** A process that runs. */
export interface Running {
  readonly pid: number
  readonly child: ChildProcess
  /** What it has printed. */
  readonly output: () => string
  readonly signal: (signal: NodeJS.Signals) => Effect.Effect<void>
  /** Waits for its end: its exit code, or the signal that ended it. */
  readonly ended: Effect.Effect<number | NodeJS.Signals>
  readonly hasEnded: () => boolean
}

/** What to start. */
export interface Command {
  readonly program: string
  readonly args: ReadonlyArray<string>
  readonly cwd: string
  readonly env?: Readonly<Record<string, string>>
  /** Called with each line that it prints. */
  readonly onLine?: (line: string) => void
}

/** Starts a process, which is killed with the scope. */
export const start = (command: Command): Effect.Effect<Running, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => launch(command)),
    (running) =>
      Effect.suspend(() => {
        if (running.hasEnded()) return Effect.void
        running.child.kill("SIGKILL")
        return Effect.asVoid(running.ended)
      })
  )

const launch = ({ args, cwd, env, onLine, program }: Command): Running => {
  const { tell } = keep()
  const child = spawn(program, args, { cwd, env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] })
  const pid = child.pid
  if (pid === undefined) throw new Error(`${program} does not start`)
  alive.set(pid, child)
  tell(alive.keys())
  child.once("exit", () => {
    alive.delete(pid)
    tell(alive.keys())
  })
  let output = ""
  let rest = ""
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    output += text
    const lines = (rest + text).split("\n")
    rest = lines.pop()!
    if (onLine !== undefined) { for (const line of lines) onLine(line) }
  })
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    output += text
  })
  const hasEnded = () => child.exitCode !== null || child.signalCode !== null
  return {
    pid,
    child,
    output: () => output,
    hasEnded,
    signal: (signal) => Effect.sync(() => child.kill(signal)),
    ended: Effect.callback((resume) => {
      const end = () => resume(Effect.succeed(child.exitCode ?? child.signalCode!))
      if (hasEnded()) end()
      else child.once("exit", end)
    })
  }
}
