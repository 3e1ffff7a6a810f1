/**
 * The table of known failures names tests that there are.
 */
import { readFileSync } from "node:fs"
import * as path from "node:path"
import { assert, describe, it } from "vitest"

const root = path.resolve(import.meta.dirname, "..")
const heading = "## Known failures of this field"

const read = (file: string): string => readFileSync(path.join(root, file), "utf8")

const rows = read("docs/reliability.md").split(heading)[1]!.split("\n")
  .filter((line) => line.startsWith("| ")).slice(1)
  .map((line) => line.split("|").map((cell) => cell.trim()))

describe("docs/reliability.md", () => {
  it("has a row for each known failure", () => {
    assert.isAtLeast(rows.length, 30)
  })

  for (const [, failure, name = "", file = ""] of rows) {
    it(`${failure === "" ? "and" : failure}: ${name}`, () => {
      const source = read(file.replace(/^contract\//, "packages/runtime/test/contract/"))
      // what stands between them differs from test to test
      for (const part of name.split("…").map((part) => part.trim())) assert.include(source, part)
    })
  }
})
