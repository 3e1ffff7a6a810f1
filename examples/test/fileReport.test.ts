/**
 * The file report, run as its user runs it: as a process, on folders with hostile content, held against `wc` and
 * `sha256sum`. Each test has a folder of its own and waits for what the program says, not for time.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { execFileSync } from "node:child_process"
import * as fs from "node:fs"
import { join } from "node:path"
import { count, toBytes } from "../src/fileReport/files.ts"
import { command, folder, limit, read, reference, run, start } from "./fileReport.ts"

/** Not in one step for a watcher, but for a rename. */
const place = (path: string, text: string) => {
  fs.writeFileSync(`${path}.new`, text)
  fs.renameSync(`${path}.new`, path)
}

const hostile = (root: string) => {
  const files: Readonly<Record<string, string | Buffer>> = {
    "binary.bin": Buffer.concat([Buffer.alloc(70_000, "text "), Buffer.from([0])]),
    empty: "",
    "crlf.txt": "one\r\ntwo three\r\n",
    "no newline": "the end",
    "utf8.txt": "naïve 日本語 — ça\u00a0va\u2028x\n",
    "latin1.txt": Buffer.from("d\u00e9j\u00e0 vu \u00ff \u0001 \u007f\v\f.\n", "latin1"),
    "long.txt": "word ".repeat(30_000) + "x".repeat(200_000),
    "new\nline \u001b[31m": "n\n",
    "😀 emoji ": "e\n",
    "a/node_modules/b/index.js": "export {}\n"
  }
  for (const [path, content] of Object.entries(files)) {
    fs.mkdirSync(join(root, path, ".."), { recursive: true })
    fs.writeFileSync(join(root, path), content)
  }
  // two names that are the same once they are read as UTF-8
  for (const byte of [0xfe, 0xff]) {
    const path = Buffer.concat([Buffer.from(`${root}/odd`), Buffer.from([byte])])
    fs.writeFileSync(path, `odd ${byte}\n`)
    fs.utimesSync(path, 1, 1)
  }
  fs.symlinkSync("..", join(root, "a/loop"))
  fs.symlinkSync("nowhere", join(root, "dangling"))
  execFileSync("mkfifo", [join(root, "pipe")])
  // A folder that nobody can reach by its path, not even root: it is too long.
  const tooLong = `while [ $(pwd | wc -c) -lt 4200 ]; do mkdir $n; cd -P $n; done`
  execFileSync("sh", ["-c", `n=$(printf 'd%.0s' $(seq 240)); ${tooLong}; echo deep > file`], { cwd: root })
}

describe("file report", () => {
  it.live("counts what wc and sha256sum count, and lists what it cannot read", () =>
    Effect.gen(function*() {
      const cwd = yield* folder
      const root = join(cwd, "in")
      hostile(root)
      const { code, stderr, stdout } = yield* run(cwd, "in", "--report", "out.json")
      assert.deepEqual([code, stderr], [0, ""])
      assert.include(stdout, "2 failures")
      assert.notInclude(stdout, "\u001b", "no control character of a name, no colours")

      const report = read(join(cwd, "out.json"))
      assert.strictEqual(report.root, root)
      assert.deepEqual(report.files, yield* reference(report))
      assert.deepEqual(report.files.map(({ path }) => path), [
        "a/node_modules/b/index.js",
        "crlf.txt",
        "empty",
        "latin1.txt",
        "long.txt",
        "new\nline \u001b[31m",
        "no newline",
        "odd\udcfe",
        "odd\udcff",
        "utf8.txt",
        "😀 emoji "
      ])
      assert.deepEqual(report.failures.map(({ reason }) => reason), ["Binary", "Unreadable (ENAMETOOLONG)"])
      const sum = (of: "bytes" | "lines" | "words") => report.files.reduce((sum, file) => sum + file[of], 0)
      assert.deepEqual(report.totals, {
        files: 11,
        failures: 2,
        skipped: 3,
        bytes: sum("bytes"),
        lines: sum("lines"),
        words: sum("words")
      })
      assert.sameMembers(fs.readdirSync(cwd), ["in", "out.json"])

      const strict = yield* run(cwd, "in", "--strict")
      assert.deepEqual([strict.code, strict.stderr], [1, "file-report: 2 of the files failed\n"])
    }), limit)

  it.live("counts the sources of effect, if nothing is said", () =>
    Effect.gen(function*() {
      const cwd = yield* folder
      const { code } = yield* run(cwd)
      assert.strictEqual(code, 0)
      const report = read(join(cwd, "report.json"))
      assert.isAbove(report.files.length, 300)
      assert.deepEqual(report.failures, [])
      assert.deepEqual(report.files, yield* reference(report))
    }), limit)

  it.live("prints the report and nothing else with --json", () =>
    Effect.gen(function*() {
      const cwd = yield* folder
      fs.writeFileSync(join(cwd, "a"), "b c\n")
      // the report is in the folder, and is not counted, not even the old one
      yield* run(cwd, ".")
      const { code, stdout } = yield* run(cwd, ".", "--json")
      assert.strictEqual(code, 0)
      assert.strictEqual(stdout, fs.readFileSync(join(cwd, "report.json"), "utf8"))
      assert.deepEqual(read(join(cwd, "report.json")).files.map(({ path }) => path), ["a"])
    }), limit)

  it.live("says in a line what is wrong with its arguments", () =>
    Effect.gen(function*() {
      const cwd = yield* folder
      fs.writeFileSync(join(cwd, "file"), "")
      const cases = [
        [["nowhere"], "nowhere: no such folder"],
        [["file"], "file: not a folder"],
        [[".", "--report", "nowhere/r.json"], "nowhere: no such folder"],
        [[".", "--concurrency", "0"], "--concurrency"],
        [[".", "--concurrency", "many"], "--concurrency"],
        [[".", "--recursive"], "--recursive"],
        [[".", "other"], "other"],
        [[".", "--worker"], "--worker needs --store"],
        [["--store", "http://user:secret@host", "--worker"], "--store: has to begin with redis://"],
        [["--store", "redis://host", "--lease", "0"], "--lease"]
      ] as const
      for (const [args, message] of cases) {
        const { code, stderr, stdout } = yield* run(cwd, ...args)
        assert.deepEqual([code, stdout], [2, ""], args.join(" "))
        assert.match(stderr, /^file-report: .*\n$/)
        assert.include(stderr, message)
        assert.notInclude(stderr, "secret")
      }
      const unwritable = yield* run(cwd, ".", "--report", ".")
      assert.strictEqual(unwritable.code, 1)
      assert.match(unwritable.stderr, /^file-report: the report cannot be written to .*\n$/)
      const help = yield* run(cwd, "--help")
      assert.deepEqual([help.code, help.stderr], [0, ""])
      for (
        const flag of ["--report", "--concurrency", "--watch", "--json", "--strict", "--store", "--worker", "--lease"]
      ) {
        assert.include(help.stdout, flag)
      }
      assert.sameMembers(fs.readdirSync(cwd), ["file"])
    }), limit)

  it.live("watches: each new version is counted once, and SIGINT ends it with 0", () =>
    Effect.gen(function*() {
      const cwd = yield* folder
      for (const name of ["a", "b"]) fs.writeFileSync(join(cwd, name), "1\n")
      const program = yield* start(cwd, [".", "--watch"])
      const counted = (stdout: string) =>
        Array.from(stdout.matchAll(/^counting (\d+)/gm)).reduce((sum, [, count]) => sum + Number(count), 0)
      const written = (times: number) => (stdout: string) =>
        counted(stdout) === times && (stdout.trimEnd().split("\n").at(-1) ?? "").includes("report written")
      yield* program.until(written(2))
      place(join(cwd, "c"), "new\n")
      yield* program.until(written(3))
      place(join(cwd, "a"), "changed now\n")
      yield* program.until(written(4))
      // had one been counted twice, this would not be the fifth
      fs.rmSync(join(cwd, "b"))
      place(join(cwd, "d"), "last\n")
      yield* program.until(written(5))
      const report = read(join(cwd, "report.json"))
      assert.deepEqual(report.files, yield* reference(report))
      yield* program.signal("SIGINT")
      const { code, stdout } = yield* program.ended
      assert.strictEqual(code, 0)
      assert.match(stdout, /\nstopped: nothing left to count, the report is up to date\n$/)
      assert.deepEqual(report.files.map(({ path, words }) => [path, words]), [
        ["a", 2],
        ["c", 1],
        ["d", 1]
      ])
      assert.sameMembers(fs.readdirSync(cwd), ["a", "c", "d", "report.json"])
    }), limit)

  const many = Array.from({ length: 30 }, (_, i) => `large ${i}`)
  /** The program, counting one file after the other, all in all for longer than a signal takes on any machine. */
  const busy = Effect.gen(function*() {
    const cwd = yield* folder
    fs.writeFileSync(join(cwd, many[0]!), Buffer.alloc(100_000_000, "some words of a large file\n"))
    for (const name of many.slice(1)) fs.linkSync(join(cwd, many[0]!), join(cwd, name))
    const program = yield* start(cwd, [".", "--concurrency", "1"])
    yield* program.until((stdout) => stdout.includes("counting 30 files"))
    return { cwd, program }
  })

  it.live("lets running files end at SIGTERM, and says what it leaves", () =>
    Effect.gen(function*() {
      const { cwd, program } = yield* busy
      yield* program.signal("SIGTERM")
      const { code, stdout } = yield* program.ended
      assert.strictEqual(code, 130)
      assert.match(
        stdout,
        /\nstopping .*\n(?:.* running .*\n)*stopped: \d+ files? left to count, no report written\n$/
      )
      assert.sameMembers(fs.readdirSync(cwd), many)
    }), limit)

  it.live("stops at once at a second signal", () =>
    Effect.gen(function*() {
      const { cwd, program } = yield* busy
      yield* program.signal("SIGINT")
      yield* program.until((stdout) => stdout.includes("stopping"))
      yield* program.signal("SIGINT")
      const { code, stdout } = yield* program.ended
      assert.strictEqual(code, 130)
      assert.notInclude(stdout, "stopped")
      assert.sameMembers(fs.readdirSync(cwd), many)
    }), limit)

  it.live("tries again when the system is short of file handles", () =>
    Effect.gen(function*() {
      const cwd = yield* folder
      for (let i = 0; i < 300; i++) fs.writeFileSync(join(cwd, `${i}`), "x\n")
      const limited = ["sh", "-c", `ulimit -n 48; exec "$@"`, "sh", ...command]
      const program = yield* start(cwd, [".", "--concurrency", "100"], limited)
      const { code, stderr } = yield* program.ended
      assert.deepEqual([code, stderr], [0, ""])
      assert.include(read(join(cwd, "report.json")).totals, { files: 300, failures: 0 })
    }), limit)

  it.effect("has a typed failure for a file that vanished, or has become a link", () =>
    Effect.gen(function*() {
      const cwd = yield* folder
      fs.symlinkSync("/dev/zero", join(cwd, "link"))
      for (const path of ["gone", "link"]) {
        assert.strictEqual((yield* Effect.flip(count(toBytes(cwd, path))))._tag, "Vanished")
      }
    }))
})
