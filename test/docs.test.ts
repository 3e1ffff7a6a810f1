/**
 * Runs the documentation: every `ts` block of the README and of `docs/` is a program of its own, is type-checked, and
 * prints what the `text` block after it says. A `mermaid` block is the picture of the flow of that name in the program
 * before it.
 */
import { execFile } from "node:child_process"
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import * as path from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "vitest"

const root = path.resolve(import.meta.dirname, "..")

const run = (cwd: string, command: string, args: ReadonlyArray<string>) =>
  new Promise<{ readonly code: number; readonly output: string }>((resolve) => {
    execFile(command, args, { cwd }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : 1, output: stdout + stderr })
    })
  })

interface Program {
  readonly name: string
  readonly code: string
  readonly output: string | undefined
  /** Pictures of its flows, by name. */
  readonly pictures: Readonly<Record<string, string>>
}

const read = (file: string): ReadonlyArray<Program> => {
  // up to the next program
  const [, ...parts] = readFileSync(path.join(root, file), "utf8").split(/^```ts\n/m)
  return parts.map((part, index) => {
    const [, code, output] = /^([^]*?)^```\n(?:\n```text\n([^]*?)^```\n)?/m.exec(part)!
    const pictures = Array.from(part.matchAll(/^```mermaid\n([^]*?)\n```\n/gm), ([, picture]) => {
      const [, name] = /^ {2}start\(\["(\w+)/m.exec(picture!)!
      return [name!, picture!] as const
    })
    return { name: `${file}, block ${index + 1}`, code: code!, output, pictures: Object.fromEntries(pictures) }
  })
}

/** The program, which writes the pictures of its flows in the end. */
const drawing = ({ code, pictures }: Program, index: number): string => {
  const names = Object.keys(pictures)
  if (names.length === 0) return code
  const drawn = names.map((name) => `${name}: Flow.toMermaid(${name})`).join(", ")
  return `${code}
const { writeFileSync } = await import("node:fs")
writeFileSync(new URL("${index}.json", import.meta.url), JSON.stringify({ ${drawn} }))
`
}

const files = ["README.md", ...readdirSync(path.join(root, "docs")).map((file) => `docs/${file}`)]
const programs = files.flatMap(read)

describe("documentation", () => {
  let folder: string

  beforeAll(async () => {
    // beside the workspace's node_modules, since Node strips no types below it
    folder = await mkdtemp(path.join(root, ".docs-"))
    const tsconfig = {
      extends: "../tsconfig.base.json",
      include: ["*.ts"],
      compilerOptions: { noEmit: true, rootDir: "..", tsBuildInfoFile: "tsbuildinfo", types: ["node"] }
    }
    await writeFile(path.join(folder, "tsconfig.json"), JSON.stringify(tsconfig))
    await Promise.all(
      programs.map((program, index) => writeFile(path.join(folder, `${index}.ts`), drawing(program, index)))
    )
  })

  afterAll(() => rm(folder, { recursive: true, force: true }))

  it("has programs", () => {
    assert.isAtLeast(programs.length, 5)
    assert.isAtLeast(programs.flatMap(({ pictures }) => Object.keys(pictures)).length, 10)
  })

  it("type-checks", async () => {
    const { code, output } = await run(folder, path.join(root, "node_modules/.bin/tsc"), ["-p", "."])
    assert.strictEqual(output, "")
    assert.strictEqual(code, 0)
  })

  for (const [index, { name, output, pictures }] of programs.entries()) {
    it(`runs ${name}`, async () => {
      const ran = await run(folder, process.execPath, ["--conditions=@effect-docket/source", `${index}.ts`])
      assert.strictEqual(ran.code, 0, ran.output)
      assert.strictEqual(ran.output, output ?? "", name)
      if (Object.keys(pictures).length === 0) return
      assert.deepStrictEqual(JSON.parse(readFileSync(path.join(folder, `${index}.json`), "utf8")), pictures, name)
    })
  }

  it("links to files that exist", async () => {
    const broken: Array<string> = []
    for (const file of [...files, "CONTRIBUTING.md", "CHANGELOG.md"]) {
      const text = readFileSync(path.join(root, file), "utf8")
      for (const [, link] of text.matchAll(/\]\((?!https?:|#)([^)#]+)/g)) {
        if (!existsSync(path.resolve(root, path.dirname(file), link!))) broken.push(`${file}: ${link}`)
      }
    }
    assert.deepStrictEqual(broken, [])
  })
})

describe("public exports", () => {
  const modules = ["dsl", "runtime", "redis-store"].flatMap((name) =>
    readdirSync(path.join(root, "packages", name, "src"), { withFileTypes: true })
      .filter((entry) => entry.isFile() && entry.name !== "index.ts")
      .map((entry) => path.join("packages", name, "src", entry.name))
  )

  it("have a doc comment with a category and a version", () => {
    const undocumented: Array<string> = []
    for (const file of modules) {
      const text = readFileSync(path.join(root, file), "utf8")
      const declarations = text.matchAll(/(\/\*\*(?:(?!\*\/)[^])*\*\/\n)?((?:\/\/.*\n)*)^export (.*)/gm)
      for (const [, comment = "", , declaration] of declarations) {
        if (comment.includes("@internal")) continue
        const isNamespace = declaration!.startsWith("* as")
        if (!comment.includes("@since") || (!isNamespace && !comment.includes("@category"))) {
          undocumented.push(`${file}: ${declaration}`)
        }
      }
    }
    assert.deepStrictEqual(undocumented, [])
  })
})
