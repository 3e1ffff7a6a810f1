/**
 * Makes sure that there is a server program before the first test asks for one.
 *
 * On a Debian or Ubuntu, and as root, it installs the one of the distribution. Elsewhere it says what to install.
 */
import { spawnSync } from "node:child_process"
import { existsSync, rmSync, writeFileSync } from "node:fs"
import { findServer } from "./binary.ts"

const advice = "The tests of the Redis store start servers of their own, and there is no server program here. "
  + "Install redis-server 6.2 or later, or valkey-server 8 or later, so that it is on the PATH, "
  + "or name it in the environment variable DOCKET_REDIS_SERVER."

// What asks whether a service may be started when a package is installed; 101 says no.
const policy = "/usr/sbin/policy-rc.d"

const run = (command: string, args: ReadonlyArray<string>): boolean =>
  spawnSync(command, args, { stdio: "ignore", env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" } }).status === 0

/** Installs the program, and nothing that keeps running. */
const install = (): void => {
  const forbids = !existsSync(policy)
  if (forbids) writeFileSync(policy, "#!/bin/sh\nexit 101\n", { mode: 0o755 })
  try {
    run("apt-get", ["update"])
    run("apt-get", ["install", "-y", "--no-install-recommends", "redis-server"])
  } finally {
    if (forbids) rmSync(policy, { force: true })
  }
  // where the policy was not asked
  if (existsSync("/run/systemd/system")) run("systemctl", ["disable", "--now", "redis-server.service"])
}

/** What vitest calls. */
export default function setup(): void {
  if (findServer() !== undefined) return
  const isNamed = (process.env["DOCKET_REDIS_SERVER"] ?? "") !== ""
  if (isNamed || process.getuid?.() !== 0 || !existsSync("/etc/debian_version")) throw new Error(advice)
  process.stdout.write("no redis-server here: installing that of the distribution with apt-get, for the tests\n")
  install()
  if (findServer() === undefined) throw new Error(`${advice} Installing it with apt-get did not work.`)
}
