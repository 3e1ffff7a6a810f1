/**
 * The packages as users get them: built, packed, and installed in a project of their own, without our export condition.
 */
import { execFile } from "node:child_process"
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import * as path from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "vitest"

const root = path.resolve(import.meta.dirname, "..")
const packages = ["dsl", "runtime", "redis-store"]

/** What a command prints; when it fails, what it printed is the message. */
const run = (cwd: string, command: string, ...args: ReadonlyArray<string>): Promise<string> =>
  new Promise((resolve, reject) => {
    execFile(command, args, { cwd }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout)
      else reject(new Error(`${error.message}\n${stdout}\n${stderr}`))
    })
  })

const exported = {
  "@effect-docket/dsl": [
    "Agenda",
    "Docket",
    "DocketError",
    "Encrypted",
    "Execution",
    "Flow",
    "Gather",
    "Perpetual",
    "Progress",
    "Retry",
    "Strike",
    "Task",
    "TaskFailure",
    "TaskGroup"
  ],
  "@effect-docket/runtime": ["DocketEngine", "DocketStore", "MemoryStore", "Worker"],
  "@effect-docket/runtime/testing": ["DocketTest", "SchemaLock", "Simulation"],
  "@effect-docket/redis-store": ["RedisStore"]
}

const imports = `
const names = ${JSON.stringify(Object.keys(exported))}
const modules = await Promise.all(names.map((name) => import(name)))
console.log(JSON.stringify(Object.fromEntries(names.map((name, i) => [name, Object.keys(modules[i]).sort()]))))
`

const consumer = `
import { Docket, Task, TaskGroup } from "@effect-docket/dsl"
import * as TaskModule from "@effect-docket/dsl/Task"
import { RedisStore } from "@effect-docket/redis-store"
import { DocketEngine, Worker } from "@effect-docket/runtime"
import { DocketTest } from "@effect-docket/runtime/testing"
import { Effect, Layer, Schema } from "effect"

class Mail extends TaskModule.make("Mail", { payload: { to: Schema.String } }) {}
class Mails extends TaskGroup.make(Mail) {}

const MailsLive: Layer.Layer<Task.Handler<"Mail">> = Mails.toLayer({ Mail: ({ to }) => Effect.log(to) })
export const worker = Worker.layer(Mails).pipe(Layer.provide([MailsLive, DocketEngine.layerMemory]))
export const drained = DocketTest.drain(Mails).pipe(Effect.provide([MailsLive, DocketTest.layer]))

export const store = RedisStore.layer({ url: "redis://127.0.0.1:6379" })

export const right = Docket.add(Mail, { to: "a" })
// @ts-expect-error the types are there: an address is a string
export const wrong = Docket.add(Mail, { to: 1 })
`

const tsconfig = {
  compilerOptions: {
    target: "ES2024",
    module: "NodeNext",
    strict: true,
    noEmit: true,
    // ioredis speaks of Node's types, as its users have them
    typeRoots: [path.join(root, "node_modules/@types")],
    types: ["node"]
  },
  files: ["consumer.ts"]
}

/** Paths of a packed package below `folder`, without their extensions. */
const modules = async (folder: string): Promise<Array<string>> => {
  const files = await readdir(folder, { recursive: true })
  return files.filter((file) => /(?<!\.d)\.[jt]s$/.test(file)).map((file) => file.replace(/\.[jt]s$/, "")).toSorted()
}

describe("packages", () => {
  let project: string
  const installed = (name: string) => path.join(project, "node_modules/@effect-docket", name)

  beforeAll(async () => {
    project = await mkdtemp(path.join(tmpdir(), "effect-docket-pack-"))
    await run(root, "npm", "run", "build")
    const workspaces = packages.map((name) => `--workspace=packages/${name}`)
    await run(root, "npm", "pack", `--pack-destination=${project}`, ...workspaces)
    const tarballs = await readdir(project)
    const dependencies = Object.fromEntries(packages.map((name) => {
      const tarball = tarballs.find((file) => file.startsWith(`effect-docket-${name}-`))
      assert.isDefined(tarball, name)
      return [`@effect-docket/${name}`, `file:./${tarball}`]
    }))
    const effect = `file:${path.join(root, "node_modules/effect")}` // needs no network
    await writeFile(
      path.join(project, "package.json"),
      JSON.stringify({ type: "module", dependencies: { ...dependencies, effect } })
    )
    // ioredis is in the cache of npm since this workspace was installed
    await run(project, "npm", "install", "--prefer-offline", "--no-audit", "--no-fund")
    await writeFile(path.join(project, "tsconfig.json"), JSON.stringify(tsconfig))
    await writeFile(path.join(project, "consumer.ts"), consumer)
    await writeFile(path.join(project, "imports.js"), imports)
  })

  afterAll(() => rm(project, { recursive: true, force: true }))

  it.each(packages)("%s holds its sources, what was built from them, and nothing else", async (name) => {
    const entries = await readdir(installed(name))
    assert.includeMembers(entries, ["LICENSE", "dist", "package.json", "src"])
    assert.isEmpty(
      entries.filter((entry) =>
        !["CHANGELOG.md", "LICENSE", "README.md", "dist", "package.json", "src"].includes(entry)
      )
    )
    assert.deepStrictEqual(
      await modules(path.join(installed(name), "dist")),
      await modules(path.join(installed(name), "src"))
    )
  })

  it("entry points load in plain Node", async () => {
    assert.deepStrictEqual(JSON.parse(await run(project, process.execPath, "imports.js")), exported)
  })

  it("internal modules stay inside", async () => {
    const program = `import("@effect-docket/dsl/internal/key").catch((error) => console.log(error.code))`
    const stdout = await run(project, process.execPath, "--input-type=module", "-e", program)
    assert.strictEqual(stdout.trim(), "ERR_PACKAGE_PATH_NOT_EXPORTED")
  })

  it("a user's program type-checks against the declarations", async () => {
    await run(project, process.execPath, path.join(root, "node_modules/typescript/bin/tsc"), "-p", ".")
  })
})
