/**
 * A short chaos: processes, servers and connections fail by a plan, and nothing that was promised breaks. The program for a long
 * one is `npm run chaos`.
 */
import type { DocketStore } from "@effect-docket/runtime"
import { assert, describe, it } from "@effect/vitest"
import { Console, Effect } from "effect"
import { execFileSync } from "node:child_process"
import { cpSync, readFileSync, writeFileSync } from "node:fs"
import * as path from "node:path"
import * as act from "./chaos/act.ts"
import type { Claimed, Line, Written } from "./chaos/book.ts"
import { buildOf, root } from "./chaos/build.ts"
import * as judge from "./chaos/judge.ts"
import * as plan from "./chaos/plan.ts"
import { summary } from "./chaos/summary.ts"
import { draw } from "./chaos/timeline.ts"
import * as processes from "./processes.ts"

// a seed whose plans have the gravest faults within their few seconds, and workers that lose leases while they have work
const options = { seed: 6964, workers: 4, producers: 2, lease: 4000, slots: 5, rate: 8, old: undefined }

/** Plays an act, prints what it has shown, and fails if anything that was promised did not hold. */
const playWell = Effect.fnUntraced(function*(wanted: act.Options) {
  const report = yield* act.play(wanted, () => {})
  const verdict = judge.judge(report)
  const text = summary(report, verdict).join("\n")
  yield* Console.log(text)
  assert.deepStrictEqual(verdict.problems, [], text)
  assert.isAtLeast(verdict.runs, 20, text)
  assert.isAtLeast(verdict.flows, 1, text)
  assert.isAtLeast(report.faults.length, 5, text)
  assert.match(text, /^ {2}(server|worker \d|producer \d) .*█/m, "a picture for the terminal")
  const picture = draw([report])
  for (const { kind } of report.faults) assert.include(picture, `<title>${kind}, `)
  return verdict
})

/** A repository with two commits: this build, and one that writes another format. */
const makeRepository = Effect.gen(function*() {
  const folder = yield* processes.makeFolder
  const git = (...args: ReadonlyArray<string>) =>
    execFileSync("git", ["-C", folder, "-c", "user.name=tests", "-c", "user.email=tests@localhost", ...args], {
      encoding: "utf8",
      // what somebody wants of their own commits is not for this one
      env: { ...process.env, GIT_CONFIG_GLOBAL: "/dev/null", GIT_CONFIG_NOSYSTEM: "1" }
    }).trim()
  const commit = (what: string): string => {
    git("add", ".")
    git("commit", "--quiet", "--message", what)
    return git("rev-parse", "HEAD")
  }
  git("init", "--quiet")
  for (const name of ["dsl", "runtime", "redis-store"]) {
    for (const part of ["package.json", "src"]) {
      const inside = path.join("packages", name, part)
      cpSync(path.join(root, inside), path.join(folder, inside), { recursive: true })
    }
  }
  const same = commit("this build")
  const layout = path.join(folder, "packages/redis-store/src/internal/layout.ts")
  writeFileSync(
    layout,
    readFileSync(layout, "utf8").replace(/export const format = ".*"/, "export const format = \"0\"")
  )
  return { folder, same, other: commit("another format") }
})

describe("chaos", () => {
  for (
    const [servers, millis, gravest] of [
      ["single", 10_000, "server killed"],
      ["sentinel", 8000, "master killed"]
    ] as const
  ) {
    it.live(
      `${servers} → nothing is lost, early or over a limit; a body is repeated only where its lease was lost`,
      () =>
        Effect.gen(function*() {
          const kinds = plan.make({ ...options, servers, millis }).map(({ kind }) => kind)
          assert.includeMembers(kinds, [gravest, "worker killed", "worker stands still"])
          yield* playWell({ ...options, servers, millis })
        }).pipe(Effect.scoped),
      180_000
    )
  }

  describe("with every other process of another build", () => {
    it.live("of the same format → both work off one docket", () =>
      Effect.gen(function*() {
        const { folder, same } = yield* makeRepository
        const built = yield* buildOf(same, folder)
        if (built._tag === "Refused") return assert.fail(built.why)
        const { other } = yield* playWell({ ...options, servers: "single", millis: 6000, old: built.root })
        assert.isAtLeast(other!.bodies, 5)
        assert.isAtLeast(other!.taken, 1)
      }).pipe(Effect.scoped), 180_000)

    it.live("of another format, or that there is none of → refused, and it says why", () =>
      Effect.gen(function*() {
        const { folder, other } = yield* makeRepository
        const refusals = yield* Effect.forEach([other, "0000000"], (commit) => buildOf(commit, folder))
        assert.match(
          refusals[0]!._tag === "Refused" ? refusals[0]!.why : "",
          /writes format 0, this build writes \d+: /
        )
        assert.include(refusals[1]!._tag === "Refused" ? refusals[1]!.why : "", "0000000 cannot be had")
      }).pipe(Effect.scoped))
  })

  describe("the judge", () => {
    const from = 1_000_000
    const claim = (token: number, more?: Partial<Claimed>): Line => ({
      tag: "claim",
      at: from,
      key: "k",
      task: "Plain",
      generation: 1,
      token: String(token),
      attempt: 1,
      lost: 0,
      due: from,
      startedAt: from,
      between: false,
      ...more
    })
    const body = (token: number, begin: number, end: number, gate?: string): ReadonlyArray<Line> => [
      { tag: "begin", at: from + begin, key: "k", generation: 1, token: String(token), gate },
      { tag: "end", at: from + end, token: String(token) }
    ]
    const settle = (
      token: number,
      at: number,
      answer: "Applied" | "Lost" = "Applied",
      change: DocketStore.Change["_tag"] = "Completed"
    ): ReadonlyArray<Line> => [
      { tag: "settle", at: from + at, token: String(token), change, after: change === "Retry" ? 300 : 0 },
      { tag: "settled", at: from + at, token: String(token), answer }
    ]
    const added: ReadonlyArray<Line> = [
      { tag: "intend", at: from - 100, key: "k", after: 100, ends: 7 },
      { tag: "added", at: from - 90, key: "k" }
    ]
    const good = [...added, claim(1), ...body(1, 0, 5), ...settle(1, 6)]
    const killed = { kind: "worker killed", target: "worker 0", from: from + 2, to: from + 50 } as const
    const exit = JSON.stringify({ _tag: "Success", value: 7 })

    const verdictOf = (lines: ReadonlyArray<Line>, more?: Partial<act.Report>) =>
      judge.judge({
        options: { ...options, servers: "single", millis: 1000 },
        from,
        calm: from + 1000,
        drained: from + 1100,
        isDrained: true,
        faults: [],
        lives: [],
        lines: lines.map((line): Written => ({ ...line, by: "worker 0" })),
        found: new Map([["k", { _tag: "Exit", exit }]]),
        leaked: [],
        folder: "",
        ...more
      })

    const again = (startedAt: number): ReadonlyArray<Line> => [
      claim(2, { attempt: 2, lost: 1, startedAt: from + startedAt }),
      ...body(2, startedAt, startedAt + 5),
      ...settle(2, startedAt + 6)
    ]
    const repeated = [...added, claim(1), ...body(1, 0, 5), ...again(4000)]
    const awake = (...times: ReadonlyArray<number>): ReadonlyArray<Line> =>
      times.map((time) => ({ tag: "awake", at: from + time }))

    it("says nothing of a run that went well, or was repeated after its lease was lost", () => {
      assert.deepStrictEqual(verdictOf(good).problems, [])
      const verdict = verdictOf(repeated, { faults: [killed] })
      assert.deepStrictEqual(verdict.problems, [])
      assert.deepStrictEqual(Array.from(verdict.duplicates), [["worker killed", 1]])
      assert.strictEqual(verdict.bound, options.slots + 2)
      const paused = verdictOf([...repeated, ...awake(0, 3000)])
      assert.deepStrictEqual(paused.problems, [])
      assert.deepStrictEqual(Array.from(paused.duplicates), [["nothing that was planned: worker stood still", 1]])
    })

    it("says nothing of a body that a worker gave back when it was asked to end", () => {
      const given = [...added, claim(1), ...body(1, 0, 5), ...settle(1, 6, "Applied", "Released")]
      const lines = [...given, claim(2, { startedAt: from + 10 }), ...body(2, 10, 15), ...settle(2, 16)]
      assert.deepStrictEqual(verdictOf(lines, { faults: [{ ...killed, kind: "worker asked to end" }] }).problems, [])
      assert.include(verdictOf(lines).problems.join(), "given back by a worker that nobody had asked to end")
    })

    const bad: ReadonlyArray<
      readonly [what: string, problem: string, lines: ReadonlyArray<Line>, more?: Partial<act.Report>]
    > = [
      ["a run that is lost", "not ended as it should", added, { found: new Map() }],
      ["a wrong value", "not ended as it should", good, {
        found: new Map([["k", { _tag: "Exit", exit: JSON.stringify({ _tag: "Success", value: 8 }) }]])
      }],
      ["a failure that is not its own", "not ended as it should", [
        { tag: "intend", at: from - 100, key: "k", after: 100, ends: "fails" },
        ...good.slice(1)
      ], {
        found: new Map([["k", {
          _tag: "Exit",
          exit: JSON.stringify({ _tag: "Failure", cause: [{ _tag: "Fail", error: { _tag: "TaskFailure" } }] })
        }]])
      }],
      ["a run that nobody wanted", "nobody has added it", [...good, claim(2, { key: "other" })]],
      ["what is not drained", "not drained", good, { isDrained: false }],
      ["a process that breaks", "worker 0 ended with 1", good, {
        lives: [{ name: "worker 0", from, to: from + 1, broke: "1: oh" }]
      }],
      ["a key that is left", "left over", good, { leaked: ["runs"] }],
      ["an early start", "early", [...added, claim(1, { startedAt: from - 50 }), ...body(1, 0, 5), ...settle(1, 6)]],
      ["a second claim within the lease", "within its lease", [
        ...added,
        claim(1),
        ...body(1, 0, 5),
        claim(2, { attempt: 2, lost: 1, startedAt: from + 3900 }),
        ...body(2, 3900, 3905),
        ...settle(2, 3906)
      ]],
      ["a second claim within the lease that was renewed", "within its lease", [
        ...added,
        claim(1),
        ...body(1, 0, 5000),
        { tag: "renewed", at: from + 2001, asked: from + 2000, token: "1" },
        claim(2, { attempt: 2, lost: 1, startedAt: from + 5000 }),
        ...body(2, 5000, 5005),
        ...settle(2, 5006)
      ]],
      ["a second claim without a loss", "without a loss", [...added, claim(1), claim(2, { startedAt: from + 9000 })]],
      ["a lease that nothing explains", "lost its lease without a cause", repeated],
      ["a lease that what happened later does not explain", "without a cause", repeated, {
        faults: [{ ...killed, from: from + 3000, to: from + 3500 }]
      }],
      ["a lease that what happened to another worker does not explain", "without a cause", repeated, {
        faults: [{ ...killed, target: "worker 1" }]
      }],
      ["a lease that is lost to what cannot cost one", "without a cause", repeated, {
        faults: [{ ...killed, kind: "connections cut" }]
      }],
      ["a lease that is lost while its worker works", "without a cause", [
        ...repeated,
        ...awake(0, 1000, 2000, 3000, 4000)
      ]],
      ["a claim after the end", "after its end", [
        ...good,
        claim(2, { attempt: 2, lost: 1, startedAt: from + 5000 }),
        ...settle(2, 5001, "Lost")
      ]],
      ["two ends", "ended twice", [
        ...good,
        claim(2, { attempt: 2, lost: 1, startedAt: from + 5000 }),
        ...settle(2, 5001)
      ]],
      ["a settlement of a claim that was lost", "by a claim that was lost", [
        ...added,
        claim(1),
        ...body(1, 0, 4200),
        claim(2, { attempt: 2, lost: 1, startedAt: from + 4100 }),
        ...settle(1, 4201),
        ...settle(2, 4300, "Lost")
      ]],
      ["a retry that is early", "retried early", [
        ...added,
        claim(1),
        ...body(1, 0, 5),
        ...settle(1, 6, "Applied", "Retry"),
        claim(2, { attempt: 2, startedAt: from + 200 }),
        ...body(2, 200, 201),
        ...settle(2, 202)
      ]],
      ["a beat that is the last before its time", "no beat came any more", [
        { tag: "intend", at: from - 100, key: "k", after: 100, ends: "goes on" },
        { tag: "added", at: from - 90, key: "k" },
        ...good.slice(2)
      ]],
      ["a token that is given twice", "given twice", [...good, claim(1)]],
      ["a run that is retried too often", "retried 4 times", [
        ...added,
        ...[1, 2, 3, 4].flatMap((n) => [
          claim(n, { attempt: n, startedAt: from + 400 * n }),
          ...body(n, 400 * n, 400 * n + 5),
          ...settle(n, 400 * n + 6, "Applied", "Retry")
        ])
      ]],
      ["a step of a flow that begins again", "a step that had ended began again", [
        ...added,
        claim(1, { task: "Split" }),
        ...body(1, 0, 5),
        ...settle(1, 6, "Applied", "Continue"),
        claim(2, { task: "Split", startedAt: from + 10 }),
        ...body(2, 10, 15),
        ...settle(2, 16)
      ]],
      ["a member of a flow that runs twice", "added 1 times, and ran 2 times: k/1/0", [
        ...good,
        ...[2, 3].flatMap((n) => [claim(n, { key: "k/1/0", task: "Part", generation: n }), ...settle(n, 10 + n)])
      ]],
      ["a process of another build than planned", "worker 0 is of", [
        ...good,
        { tag: "code", at: from, from: "file:///other/packages/redis-store/src/index.ts" }
      ], { options: { ...options, servers: "single", millis: 1000, old: "/other" } }],
      ["a run that is added once and runs twice", "ran 2 times", [...good, claim(2, { generation: 2 })]],
      ["a start after the cancel", "after it was cancelled", [
        ...good,
        { tag: "cancelled", at: from - 50, key: "k" }
      ]],
      ["more duplicates than a worker can hold", "8 duplicates of 7 that worker 0 could hold", [
        ...good.slice(0, 4),
        ...Array.from({ length: 8 }, (_, n) => [
          claim(n + 2, { attempt: n + 2, lost: n + 1, at: from + 4000 * (n + 1), startedAt: from + 4000 * (n + 1) }),
          ...body(n + 2, 4000 * (n + 1), 4000 * (n + 1) + 1)
        ]).flat()
      ], { faults: [{ ...killed, to: from + 90_000 }] }],
      ["a limit that is exceeded", "3 at once", [
        ...good,
        ...[2, 3, 4].flatMap((n) => [
          claim(n, { key: `s${n}`, task: "Serial" }),
          ...body(n, 10 + n, 100, "Serial red"),
          ...settle(n, 101)
        ])
      ]],
      ["a rate that is exceeded", "9 starts within", [
        ...good,
        ...[2, 3, 4, 5, 6, 7, 8, 9, 10].flatMap((n) => [
          claim(n, { key: `r${n}`, task: "Rated", startedAt: from + 100 * n }),
          ...body(n, 100 * n, 100 * n + 1, "Rated"),
          ...settle(n, 1100)
        ])
      ]],
      ["a beat that is early", "a beat came", [
        { tag: "intend", at: from - 100, key: "k", after: 100, ends: "goes on" },
        { tag: "added", at: from - 90, key: "k" },
        ...good.slice(2),
        claim(2, { generation: 2, startedAt: from + 300 }),
        ...body(2, 300, 301),
        ...settle(2, 302)
      ]]
    ]
    for (const [what, problem, lines, more] of bad) {
      it(`notices ${what}`, () => {
        const { problems } = verdictOf(lines, more)
        assert.isTrue(problems.some((one) => one.includes(problem)), `${problem}: ${problems.join("\n")}`)
      })
    }
  })

  it("one seed → one plan, with every kind of fault", () => {
    for (const servers of ["single", "sentinel"] as const) {
      const planned = plan.make({ ...options, servers, millis: 60_000 })
      assert.deepStrictEqual(planned, plan.make({ ...options, servers, millis: 60_000 }))
      assert.notDeepEqual(planned, plan.make({ ...options, servers, millis: 60_000, seed: 2 }))
      assert.deepStrictEqual(
        new Set(planned.map(({ kind }) => kind)),
        new Set(plan.kindsOf(servers))
      )
    }
  })
})
