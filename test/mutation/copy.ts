/**
 * A copy of the repository as it is now, with what has not been committed: what is broken is never the working tree.
 */
import { Effect, type Scope } from "effect"
import { execFileSync } from "node:child_process"
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  rmSync,
  symlinkSync
} from "node:fs"
import { tmpdir } from "node:os"
import * as path from "node:path"

// what belongs to the workspace, and has to be that of the copy
const own = "@effect-docket"

/** What is installed is shared, but for the packages of the workspace, which would lead back to the working tree. */
const linkModules = (from: string, to: string): void => {
  mkdirSync(path.join(to, own), { recursive: true })
  for (const name of readdirSync(from)) {
    if (name.startsWith(".") || name === own) continue
    symlinkSync(path.join(from, name), path.join(to, name))
  }
  for (const name of readdirSync(path.join(from, own))) {
    symlinkSync(readlinkSync(path.join(from, own, name)), path.join(to, own, name)) // they are relative
  }
}

/** A folder with a copy of the repository at `root`, which ends with the scope. */
export const copyOf = (root: string): Effect.Effect<string, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const folder = mkdtempSync(path.join(tmpdir(), "docket-mutation-"))
      const listed = execFileSync("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], {
        cwd: root,
        encoding: "utf8"
      })
      for (const file of listed.split("\0")) {
        // one that was removed is still listed
        if (file === "" || !existsSync(path.join(root, file))) continue
        mkdirSync(path.dirname(path.join(folder, file)), { recursive: true })
        copyFileSync(path.join(root, file), path.join(folder, file))
      }
      linkModules(path.join(root, "node_modules"), path.join(folder, "node_modules"))
      mkdirSync(path.join(folder, "tmp"))
      return folder
    }),
    // servers of tests that were stopped may still write there for a moment
    (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 }))
  )
