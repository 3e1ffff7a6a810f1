/**
 * Runs the acceptance programs; `npm run check` compiles them, and the one whose errors the compiler has to find.
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

// what each of them says last, when all that it asserts has held
const programs = {
  "seed-patterns": "ok seed patterns",
  "seed-flows": "ok seed flows",
  flows: "ok flows",
  worker: "ok worker"
}

describe("acceptance programs", () => {
  for (const [program, last] of Object.entries(programs)) {
    it(`${program} runs to its end`, async () => {
      const output = await run(program)
      assert.strictEqual(output.trimEnd().split("\n").at(-1), last)
    })
  }
})
