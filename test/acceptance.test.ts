/**
 * Runs the acceptance programs that this version can run; `npm run check` compiles all of them.
 */
import { execFile } from "node:child_process"
import * as path from "node:path"
import { assert, describe, it } from "vitest"

const root = path.resolve(import.meta.dirname, "..")

const run = (program: string) =>
  new Promise<string>((resolve, reject) => {
    const args = ["--conditions=@effect-docket/source", `acceptance/${program}.ts`]
    execFile(process.execPath, args, { cwd: root }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout)
      else reject(new Error(`${error.message}\n${stdout}\n${stderr}`))
    })
  })

describe("acceptance programs", () => {
  it("seed-patterns runs to its end", async () => {
    const output = await run("seed-patterns")
    assert.strictEqual(output.trimEnd().split("\n").at(-1), "ok seed patterns")
  })
})
