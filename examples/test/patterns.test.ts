/**
 * The programs of `examples/patterns`, run as their reader runs them: each prints what its last comment says.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { execFile } from "node:child_process"
import { readdirSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"

const folder = new URL("../patterns/", import.meta.url)
const limit = 60_000

// all of them, so that none can be dropped without a word
const patterns = [
  "adaptive",
  "dryRun",
  "findAndFlood",
  "flowConditional",
  "flowFanOut",
  "flowMapReduce",
  "flowSaga",
  "flowSequential",
  "scatterBasic",
  "scatterFailure",
  "scatterFuture",
  "scatterJitter",
  "scatterMixed",
  "scatterReuse",
  "scatterSingle",
  "selfCancelling"
]

/** What a program prints, if it ends well and says nothing else. */
const run = (name: string, ...args: ReadonlyArray<string>) =>
  Effect.callback<string>((resume) => {
    const file = fileURLToPath(new URL(`${name}.ts`, folder))
    const child = execFile(
      process.execPath,
      ["--conditions=@effect-docket/source", file, ...args],
      (error, stdout, stderr) =>
        resume(
          error === null && stderr === ""
            ? Effect.succeed(stdout)
            : Effect.die(new Error(`${name}: ${stdout}${stderr}`))
        )
    )
    return Effect.sync(() => child.kill("SIGKILL"))
  })

/** What a program says that it prints. */
const promised = (name: string): string => {
  const match = /\n\/\* prints\n([^]+)\*\/\n$/.exec(readFileSync(new URL(`${name}.ts`, folder), "utf8"))
  assert(match !== null, `${name} ends with what it prints`)
  return match[1]!
}

describe("patterns", () => {
  it("are those that are listed, here and in their README", () => {
    const files = readdirSync(folder).filter((file) => file.endsWith(".ts")).map((file) => file.slice(0, -3))
    assert.deepStrictEqual(files.toSorted(), patterns)
    const readme = readFileSync(new URL("README.md", folder), "utf8")
    const listed = Array.from(readme.matchAll(/^\| \[(\w+)\]\(\1\.ts\)/gm), ([, name]) => name!)
    assert.deepStrictEqual(listed.toSorted(), patterns)
  })

  for (const name of patterns) {
    it.live(
      `${name} prints what it says`,
      () => Effect.map(run(name), (printed) => assert.strictEqual(printed, promised(name))),
      limit
    )
  }

  it.live(
    "dryRun --svg prints the picture of the documentation",
    () =>
      Effect.map(run("dryRun", "--svg"), (printed) =>
        assert.strictEqual(
          printed,
          readFileSync(new URL("../../docs/agenda.svg", import.meta.url), "utf8"),
          "write it again with `npx node --conditions=@effect-docket/source examples/patterns/dryRun.ts --svg > docs/agenda.svg`"
        )),
    limit
  )
})
