/**
 * An older build of the project, made from its history, to run beside this one.
 */
import { Effect } from "effect"
import { spawnSync } from "node:child_process"
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, realpathSync, symlinkSync } from "node:fs"
import * as path from "node:path"
import * as processes from "../processes.ts"

/** Where this build is. */
export const root = path.resolve(import.meta.dirname, "../../../..")

const scope = "@effect-docket"
const layout = "packages/redis-store/src/internal/layout.ts"
const here = "packages/redis-store/test/chaos"

/** A build, or why there is none. */
export type Built =
  | { readonly _tag: "Built"; readonly root: string }
  | { readonly _tag: "Refused"; readonly root?: undefined; readonly why: string }

/** Runs git; what it said, if it failed. */
const git = (...args: ReadonlyArray<string>): string | undefined => {
  const { error, status, stderr } = spawnSync("git", args, { encoding: "utf8" })
  return status === 0 ? undefined : (error?.message ?? stderr).trim()
}

/** What a build calls the format of what it writes. */
const formatOf = (folder: string): string | undefined =>
  /export const format = "(.*)"/.exec(readFileSync(path.join(folder, layout), "utf8"))?.[1]

/** Links the dependencies of this build into another one, but for the packages of the project. */
const linkModules = (folder: string): void => {
  const modules = path.join(folder, "node_modules")
  mkdirSync(path.join(modules, scope), { recursive: true })
  for (const name of readdirSync(path.join(root, "node_modules"))) {
    if (name !== scope) symlinkSync(path.join(root, "node_modules", name), path.join(modules, name))
  }
  for (const name of readdirSync(path.join(folder, "packages"))) {
    symlinkSync(path.join(folder, "packages", name), path.join(modules, scope, name))
  }
}

/** The build of a commit, in a folder that ends with this process. Its processes run the programs that are here. */
export const buildOf = Effect.fnUntraced(function*(
  commit: string,
  repository: string = root
): Effect.fn.Return<Built> {
  // the code of a process is told by where it really is
  const folder = path.join(realpathSync(yield* processes.makeFolder), "build")
  const refusal = git("clone", "--quiet", "--no-checkout", repository, folder) ??
    git("-C", folder, "checkout", "--quiet", commit)
  if (refusal !== undefined) return { _tag: "Refused", why: `${commit} cannot be had from ${repository}: ${refusal}` }
  if (!existsSync(path.join(folder, layout))) return { _tag: "Refused", why: `${commit} has no store on Redis` }
  const [own, its] = [formatOf(root), formatOf(folder)]
  if (own !== its) {
    return {
      _tag: "Refused",
      why:
        `${commit} writes format ${its}, this build writes ${own}: a docket is of one format, so they cannot share one`
    }
  }
  cpSync(path.join(root, here), path.join(folder, here), { recursive: true })
  linkModules(folder)
  return { _tag: "Built", root: folder }
})
