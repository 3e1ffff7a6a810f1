/**
 * The server program of the tests: the one that DOCKET_REDIS_SERVER names, or `redis-server` or `valkey-server` on the PATH.
 */
import { accessSync, constants } from "node:fs"
import * as path from "node:path"

const isExecutable = (file: string): boolean => {
  try {
    accessSync(file, constants.X_OK)
    return true
  } catch {
    return false
  }
}

const onPath = (name: string): string | undefined =>
  (process.env["PATH"] ?? "").split(path.delimiter).map((folder) => path.join(folder, name)).find(isExecutable)

/** Where it is, if it is anywhere. */
export const findServer = (): string | undefined => {
  const named = process.env["DOCKET_REDIS_SERVER"]
  if (named === undefined || named === "") return onPath("redis-server") ?? onPath("valkey-server")
  return named.includes("/") ? (isExecutable(named) ? named : undefined) : onPath(named)
}
