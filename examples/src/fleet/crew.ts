/**
 * The processes of a fleet, as the main process sees them. Shown here: Effect's child processes, which end with a scope.
 */
import { Effect, Fiber, type Redacted, Schema, type Scope, Stream } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import { fileURLToPath } from "node:url"
import { Line, storeVariable } from "./tasks.ts"

/** A process. `state` is for people to read. */
export interface Member {
  readonly role: "producer" | "worker"
  readonly name: string
  readonly pid: number
  state: "starting" | "at work" | "finished" | "killed" | "failed"
  total: number
  /** By how many milliseconds its latest runs began late. */
  late: Array<number>
  /** What it said when it failed. */
  said: string
  /** Asks it to end in order, and waits for that. */
  readonly dismiss: Effect.Effect<void>
  readonly ended: Effect.Effect<void>
}

const recent = 1000
const decode = Schema.decodeEffect(Line)

/** Starts a process, which ends with the scope. `onLate` gets what each of its lines says of being late. */
export const hire = Effect.fnUntraced(function*(
  role: Member["role"],
  number: number,
  args: ReadonlyArray<string | number>,
  options: { readonly store: Redacted.Redacted<string>; readonly onLate: (late: ReadonlyArray<number>) => void }
): Effect.fn.Return<Member, never, ChildProcessSpawner.ChildProcessSpawner | Scope.Scope> {
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const file = fileURLToPath(new URL(`${role}.ts`, import.meta.url))
  // a group of its own, which is the default: Ctrl-C reaches the main process alone, and that one ends the others in order
  const child = yield* Effect.orDie(
    spawner.spawn(ChildProcess.make(process.execPath, [...process.execArgv, file, ...args.map(String)], {
      env: { [storeVariable]: options.store },
      extendEnv: true,
      forceKillAfter: "15 seconds"
    }))
  )
  const listen = child.stdout.pipe(
    Stream.decodeText,
    Stream.splitLines,
    Stream.mapEffect((line) => decode(line)),
    Stream.runForEach(({ late, total }) =>
      Effect.sync(() => {
        member.state = "at work"
        member.total = total
        member.late = [...member.late, ...late].slice(-recent)
        options.onLate(late)
      })
    ),
    Effect.ignore
  )
  const complain = child.stderr.pipe(
    Stream.decodeText,
    Stream.runForEach((text) =>
      Effect.sync(() => {
        member.said += text
      })
    ),
    Effect.ignore
  )
  const watch = Effect.gen(function*() {
    yield* Effect.all([listen, complain], { concurrency: "unbounded" })
    // a signal has no exit code, and 130 is that of one that was told to stop
    const code = yield* Effect.orElseSucceed(child.exitCode, () => undefined)
    member.state = code === undefined ? "killed" : code === 0 || code === 130 ? "finished" : "failed"
  })
  const fiber = yield* Effect.forkScoped(watch)
  const ended = Effect.asVoid(Fiber.await(fiber))
  const member: Member = {
    role,
    name: `${role} ${number}`,
    pid: child.pid,
    state: "starting",
    total: 0,
    late: [],
    said: "",
    // the id of one that has ended may be that of another process by now
    dismiss: Effect.suspend(() => hasEnded(member) ? Effect.void : Effect.andThen(Effect.ignore(child.kill()), ended)),
    ended
  }
  return member
})

export const hasEnded = ({ state }: Member): boolean => state === "finished" || state === "killed" || state === "failed"
