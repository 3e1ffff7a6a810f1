/**
 * `npm run mutate [-- --only TEXT,…] [--part K/N] [--list]`
 *
 * Breaks the implementation in one place after the other, in a copy, and runs the tests that have to notice.
 */
import { Console, Effect, Exit } from "effect"
import * as path from "node:path"
import { parseArgs } from "node:util"
import { copyOf } from "./copy.ts"
import { judge, passing, type Verdict } from "./judge.ts"
import type { Mutation } from "./mutation.ts"
import { mutations } from "./mutations.ts"

const usage = `npm run mutate [-- --only TEXT,…] [--part K/N] [--list]

  --only TEXT,…  mutations whose id begins with one of these
  --part K/N     every N-th of them, from the K-th on
  --list         says what would be broken, and breaks nothing`

const root = path.resolve(import.meta.dirname, "../..")

const program = (chosen: ReadonlyArray<Mutation>) =>
  Effect.gen(function*() {
    const verdicts: Array<Verdict> = []
    const count = (status: Verdict["status"]) => verdicts.filter((verdict) => verdict.status === status).length
    const width = Math.max(...chosen.map(({ id }) => id.length))
    const all = Effect.gen(function*() {
      const folder = yield* copyOf(root)
      const known = yield* passing(folder, chosen)
      yield* Console.log(`${known.size} tests pass without a mutation`)
      for (const mutation of chosen) {
        const begun = performance.now()
        const verdict = yield* judge(folder, mutation, known)
        verdicts.push(verdict)
        const seconds = ((performance.now() - begun) / 1000).toFixed(1).padStart(5)
        yield* Console.log(`${verdict.status.padEnd(8)}  ${mutation.id.padEnd(width)} ${seconds} s  ${verdict.by}`)
      }
    })
    yield* Effect.ensuring(
      Effect.scoped(all),
      Effect.suspend(() => {
        const others = [[count("invalid"), "invalid"], [chosen.length - verdicts.length, "not tried"]] as const
        const figures = others.filter(([n]) => n > 0).map(([n, what]) => `, ${n} ${what}`).join("")
        return Console.log(`${count("noticed")} noticed, ${count("survived")} survived${figures}`)
      })
    )
    if (count("noticed") < chosen.length) process.exitCode = 1
  })

const { values } = parseArgs({
  options: {
    only: { type: "string" },
    part: { type: "string", default: "1/1" },
    list: { type: "boolean", default: false },
    help: { type: "boolean", default: false }
  }
})

const [, part, parts] = (/^(\d+)\/(\d+)$/.exec(values.part) ?? []).map(Number)
const only = values.only?.split(",").filter((text) => text !== "")
const chosen = mutations
  .filter(({ id }) => only === undefined || only.some((text) => id.startsWith(text)))
  .filter((_, index) => index % (parts ?? 1) === (part ?? 1) - 1)

const refuse = (why: string) => Effect.andThen(Console.error(`${why}\n\n${usage}`), Effect.fail(why))

const wanted = values.help
  ? Console.log(usage)
  : part === undefined
  ? refuse("`--part` is two numbers: 2/3")
  : chosen.length === 0
  ? refuse("no such mutation")
  : values.list
  ? Console.log(chosen.map(({ breaks, file, id }) => `${id}: ${breaks} (${file})`).join("\n"))
  : program(chosen)

const stop = new AbortController()
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => stop.abort())
const exit = await Effect.runPromiseExit(wanted, { signal: stop.signal })
if (Exit.isFailure(exit)) process.exitCode = stop.signal.aborted ? 130 : 1
