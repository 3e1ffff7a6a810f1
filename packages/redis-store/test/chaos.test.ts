/**
 * A short chaos: processes, servers and connections fail by a plan, and nothing that was promised breaks. The program for a long
 * one is `npm run chaos`.
 */
import { assert, describe, it } from "@effect/vitest"
import { Console, Effect } from "effect"
import * as act from "./chaos/act.ts"
import type { Line, Written } from "./chaos/book.ts"
import * as judge from "./chaos/judge.ts"
import * as plan from "./chaos/plan.ts"
import { summary } from "./chaos/summary.ts"
import { draw } from "./chaos/timeline.ts"

// a seed whose plans have the gravest faults within their few seconds
const options = { seed: 250, workers: 4, producers: 2, lease: 4000, slots: 5, rate: 8, flows: true, old: undefined }

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
          const report = yield* act.play({ ...options, servers, millis }, () => {})
          const verdict = judge.judge(report)
          const text = summary(report, verdict).join("\n")
          yield* Console.log(text)
          assert.deepStrictEqual(verdict.problems, [], text)
          assert.isAtLeast(verdict.runs, 20, text)
          assert.isAtLeast(report.faults.length, 5, text)
          assert.include(draw([report]), "bodies")
        }).pipe(Effect.scoped),
      180_000
    )
  }

  describe("the judge", () => {
    const from = 1_000_000
    type ClaimLine = Extract<Line, { readonly tag: "claim" }>
    const claim = (token: number, more?: Partial<ClaimLine>): Line => ({
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
      { tag: "begin", at: from + begin, token: String(token), gate },
      { tag: "end", at: from + end, token: String(token) }
    ]
    const settle = (token: number, at: number, answer: "Applied" | "Lost" = "Applied"): ReadonlyArray<Line> => [
      { tag: "settle", at: from + at, token: String(token), change: "Completed", after: 0 },
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

    it("says nothing of a run that went well, or was repeated after its lease was lost", () => {
      assert.deepStrictEqual(verdictOf(good).problems, [])
      const again = claim(2, { attempt: 2, lost: 1, startedAt: from + 4000 })
      const repeated = [...added, claim(1), ...body(1, 0, 5), again, ...body(2, 4000, 4005), ...settle(2, 4006)]
      const verdict = verdictOf(repeated, { faults: [killed] })
      assert.deepStrictEqual(verdict.problems, [])
      assert.deepStrictEqual(Array.from(verdict.duplicates), [["worker killed", 1]])
    })

    const bad: ReadonlyArray<
      readonly [what: string, problem: string, lines: ReadonlyArray<Line>, more?: Partial<act.Report>]
    > = [
      ["a run that is lost", "not ended as it should", added, { found: new Map() }],
      ["a wrong value", "not ended as it should", good, {
        found: new Map([["k", { _tag: "Exit", exit: JSON.stringify({ _tag: "Success", value: 8 }) }]])
      }],
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
        { tag: "renewed", at: from + 2000, token: "1" },
        claim(2, { attempt: 2, lost: 1, startedAt: from + 5000 }),
        ...body(2, 5000, 5005),
        ...settle(2, 5006)
      ]],
      ["a second claim without a loss", "without a loss", [...added, claim(1), claim(2, { startedAt: from + 9000 })]],
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
        { tag: "settle", at: from + 6, token: "1", change: "Retry", after: 300 },
        { tag: "settled", at: from + 7, token: "1", answer: "Applied" },
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
      ["a run that is added once and runs twice", "ran 2 times", [...good, claim(2, { generation: 2 })]],
      ["a start after the cancel", "after it was cancelled", [
        ...good,
        { tag: "cancelled", at: from - 50, key: "k" }
      ]],
      ["more duplicates than the faults allow", "duplicates", [
        ...good.slice(0, 4),
        ...Array.from({ length: 6 }, (_, n) => [
          claim(n + 2, { attempt: n + 2, lost: n + 1, startedAt: from + 4000 * (n + 1) }),
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
