/**
 * The ledger of a simulation: what it says of a store that does not keep a promise.
 */
import type { Docket, Execution } from "@effect-docket/dsl"
import { assert, describe, it } from "@effect/vitest"
import type {
  Change,
  Claim,
  ClaimedThread,
  Settled,
  Settlement,
  Successor,
  TurnReply,
  TurnRequest,
  WorkerOptions
} from "../../src/DocketStore.ts"
import * as additions from "../../src/internal/simulation/additions.ts"
import * as claims from "../../src/internal/simulation/claims.ts"
import * as events from "../../src/internal/simulation/events.ts"
import { Ledger } from "../../src/internal/simulation/ledger.ts"
import * as settlements from "../../src/internal/simulation/settlements.ts"
import type { View } from "../../src/internal/simulation/timers.ts"
import { Trace } from "../../src/internal/simulation/trace.ts"
import { addition } from "../contract/seam.ts"

/** A turn that settles one run, and the reply to one that does nothing. */
const turn = (settlement: Settlement): TurnRequest => ({
  settle: [settlement],
  capacity: 0,
  lanes: undefined,
  except: undefined
})
const nothing: TurnReply = { now: 0, settled: [], claimed: [], cancelled: [], unserved: [] }

/** A ledger that has seen one run of the task "T" being added at 0, due at 10, and what it says of what comes then. */
const audited = (
  perpetual: boolean,
  story: (tell: {
    readonly claim: (now: number, token: string, process?: string, more?: Partial<Claim>) => void
    readonly settle: (
      now: number,
      token: string,
      tag: "Completed" | "Failed" | "Released",
      answer: string,
      successor?: Successor
    ) => void
    readonly body: (token: string, attempt?: number) => void
    /** Nothing more happens at a time, until the next. The store shows the run in a state, or has forgotten it. */
    readonly quiet: (now: number, until: number, state: Execution.State | undefined) => void
    readonly ledger: Ledger
  }) => void,
  added: Partial<Docket.EncodedAddition> = {}
): ReadonlyArray<string> => {
  const ledger = new Ledger(new Trace(() => 0), new Map(perpetual ? [["T", 1000]] : []))
  const options: WorkerOptions = {
    worker: "w",
    tasks: new Map([["T", 1]]),
    lanes: ["default"],
    lease: 100,
    onWake: () => {}
  }
  const claimOf = (token: string): Claim => ({
    key: "k",
    generation: 1,
    token,
    task: "T",
    version: 1,
    payload: "{}",
    attempt: 1,
    lost: 0,
    failures: undefined,
    due: 10,
    startedAt: Number(token),
    trace: undefined
  })
  additions.added(ledger, [addition("k", { due: { at: 10 }, ...added })], [{
    disposition: "Added",
    generation: 1,
    due: 10
  }], 0)
  story({
    ledger,
    claim: (now, token, process = "w", more) =>
      claims.claimed(ledger, process, options, { ...nothing, claimed: [{ ...claimOf(token), ...more }] }, now),
    settle: (now, token, tag, answer, successor) => {
      const change: Change = tag === "Released" ? { _tag: tag } : { _tag: tag, exit: "" }
      const settlement = { key: "k", generation: 1, token, change, successor }
      const settled = [answer as Settled] // one of them
      settlements.settled(ledger, turn(settlement), { ...nothing, settled }, now)
    },
    body: (token, attempt = 1) => {
      const claim = claims.begin(ledger, "w", "k", attempt, Number(token))
      if (claim !== undefined) claim.result = "Success"
    },
    quiet: (now, until, state) => {
      const run = state &&
        { ...addition("k"), generation: 1, state, due: 10, attempt: 1, worker: "w", progress: undefined }
      const view: View = { get: () => run, explain: () => ({ _tag: "Unknown" }) }
      for (const text of ledger.timers.check(now, until, view)) ledger.violation(text)
    }
  })
  return ledger.violations
}

const { retention: { failure, success } } = addition("k")

/** A run of a flow between two steps, as it is claimed. */
const thread: ClaimedThread = {
  flow: "F",
  version: 1,
  step: undefined,
  state: "",
  deadline: undefined,
  onCancel: "end",
  parent: undefined,
  between: true,
  gathered: undefined,
  exit: undefined,
  stopped: undefined
}

const finished = (at: number) =>
  ({
    task: "T",
    key: "k",
    generation: 1,
    event: { _tag: "Finished", at, outcome: { _tag: "Exit", exit: "" } }
  }) as const

describe("The ledger of a simulation", () => {
  it("has nothing to say of what is as promised", () => {
    assert.deepStrictEqual(
      audited(false, ({ body, claim, ledger, settle }) => {
        claim(10, "1")
        body("1")
        settle(20, "1", "Released", "Applied")
        // what it took back is another one's
        claim(20, "2", "other")
        claim(120, "3", "w", { attempt: 2, lost: 1 })
        settle(121, "2", "Completed", "Lost")
        body("3", 2)
        settle(130, "3", "Completed", "Applied")
        events.event(ledger, finished(130))
        settle(131, "3", "Completed", "Duplicate")
      }),
      []
    )
  })

  it("has nothing to say of what comes at its time", () => {
    assert.deepStrictEqual(
      audited(false, ({ body, claim, ledger, quiet, settle }) => {
        quiet(0, 10, "Scheduled")
        quiet(10, 20, "Ready")
        claim(20, "1")
        quiet(20, 110, "Running")
        claims.renewed(ledger, [{ key: "k", generation: 1, token: "1" }], ["Renewed"], 110)
        quiet(110, 120, "Running")
        quiet(120, 130, "Running")
        body("1")
        settle(130, "1", "Completed", "Applied")
        events.event(ledger, finished(130))
        quiet(130, 130 + success, "Completed")
        quiet(130 + success, 131 + success, undefined)
      }),
      []
    )
  })

  it("has nothing to say of a successor that a gate holds, and is told of it when it is ready", () => {
    const successor: Successor = { due: { at: 1010 }, payload: "{}", version: 1, gates: { concurrency: "g" } }
    const violations = (gates: Successor["gates"]) =>
      audited(true, ({ body, claim, ledger, settle }) => {
        claim(10, "1")
        body("1")
        settle(2000, "1", "Completed", "Applied", { ...successor, gates })
        events.event(ledger, finished(2000))
        claim(2001, "2", "w", { key: "other", generation: 2 })
        assert.strictEqual(ledger.unseen.has("k"), gates !== undefined)
        if (gates === undefined) return
        events.event(ledger, { task: "T", key: "k", generation: 3, event: { _tag: "Ready", at: 2002 } })
        claim(2003, "3", "w", { generation: 3, due: 1010 })
      })
    const other = "other#2 (attempt 1, token 2) is claimed, and nobody added it"
    assert.deepStrictEqual(violations(successor.gates), [other])
    assert.deepStrictEqual(violations(undefined), ["the successor of k is missing", other])
  })

  for (
    const [text, story] of [
      ["2 ms early", ({ claim }) => claim(8, "1")],
      ["is claimed while w holds it until 110", ({ claim }) => {
        claim(10, "1")
        claim(109, "2")
      }],
      ["was Applied, but its lease was over", ({ claim, settle }) => {
        claim(10, "1")
        claim(110, "2", "other")
        settle(111, "1", "Failed", "Applied")
      }],
      ["was Lost, but it is held until 110", ({ claim, settle }) => {
        claim(10, "1")
        settle(11, "1", "Failed", "Lost")
      }],
      ["but its body did not succeed", ({ claim, settle }) => {
        claim(10, "1")
        settle(11, "1", "Completed", "Applied")
      }],
      ["began twice", ({ body, claim }) => {
        claim(10, "1")
        body("1")
        body("1")
      }],
      ["which it was not given", ({ body }) => body("1")],
      ["had ended (Exit)", ({ claim, ledger, settle }) => {
        claim(10, "1")
        settle(11, "1", "Failed", "Applied")
        events.event(ledger, finished(11))
        events.event(ledger, finished(12))
      }],
      ["was taken from w, which holds it until 110", ({ claim, ledger }) => {
        claim(10, "1")
        events.event(ledger, { ...finished(50), event: { _tag: "Ready", at: 50 } })
      }],
      ["is claimed after somebody had cancelled it", ({ claim, ledger }) => {
        claim(10, "1")
        additions.cancelled(ledger, "k", undefined, true)
        claim(110, "2")
      }],
      ["while it is struck", ({ claim, ledger }) => {
        ledger.measures.struck({ task: "T", where: [], reason: "", until: undefined })
        claim(10, "1")
      }],
      ["has lost 0 claims, after attempt 1 and 1 that were lost", ({ claim }) => {
        claim(10, "1")
        claim(110, "2", "other", { attempt: 2 })
      }],
      ["has lost 0 claims, after attempt 0 and 0 that were lost", ({ claim, settle }) => {
        claim(10, "1")
        settle(11, "1", "Released", "Applied")
        claim(12, "2", "other", { attempt: 2 })
      }],
      [
        "q is due 5 ms too early",
        ({ ledger }) =>
          additions.added(ledger, [addition("q", { due: { at: 15 } })], [{
            disposition: "Added",
            generation: 2,
            due: 10
          }], 0)
      ],
      ["while it is paused", ({ claim, ledger }) => {
        ledger.measures.paused({ task: undefined, lane: "default" })
        claim(10, "1")
      }],
      ["is still scheduled, 2 ms after it was due", ({ quiet }) => quiet(12, 20, "Scheduled")],
      ["is still held, and its lease ended at 110", ({ claim, quiet }) => {
        claim(10, "1")
        quiet(110, 111, "Running")
      }],
      ["which has not failed and is kept for", ({ body, claim, ledger, quiet, settle }) => {
        claim(10, "1")
        body("1")
        settle(11, "1", "Completed", "Applied")
        events.event(ledger, finished(11))
        quiet(12, 11 + success, undefined)
      }],
      ["which has failed and is kept for", ({ claim, ledger, quiet, settle }) => {
        claim(10, "1")
        settle(11, "1", "Failed", "Applied")
        events.event(ledger, finished(11))
        quiet(11 + failure, 12 + failure, "Failed")
      }],
      ["has payload {\"n\":1}, and not {}", ({ claim }) => claim(10, "1", "w", { payload: "{\"n\":1}" })],
      ["has failures [], and not undefined", ({ claim }) => claim(10, "1", "w", { failures: "[]" })],
      [
        "as struck, and nothing strikes it",
        ({ claim }) => claim(10, "1", "w", { thread: { ...thread, stopped: { _tag: "Struck", reason: "" } } })
      ],
      [
        "as expired, and its deadline is 20",
        ({ claim }) => claim(10, "1", "w", { thread: { ...thread, deadline: 20, stopped: { _tag: "Expired" } } })
      ],
      [
        "has the state other of its flow, and not undefined",
        ({ claim }) => claim(10, "1", "w", { thread: { ...thread, state: "other" } })
      ],
      ["ended with an exit that nobody has settled", ({ ledger }) => events.event(ledger, finished(10))],
      ["is told {\"_tag\":\"Cancelled\"}, and that is not how it ended", ({ claim, ledger, settle }) => {
        claim(10, "1")
        settle(11, "1", "Failed", "Applied")
        events.event(ledger, finished(11))
        events.awaited(ledger, "k", 1, { _tag: "Cancelled" })
      }],
      ["who waits for k#2 is told", ({ claim, ledger, settle }) => {
        claim(10, "1")
        settle(11, "1", "Failed", "Applied")
        events.event(ledger, finished(11))
        events.awaited(ledger, "k", 2, { _tag: "Exit", exit: "" })
      }],
      ["progress of k#1 (attempt 1, token 1) was answered with true, but its lease was over", ({ claim, ledger }) => {
        claim(10, "1")
        claim(110, "2", "other", { attempt: 2, lost: 1 })
        claims.progressed(ledger, { key: "k", generation: 1, token: "1" }, true, 111)
      }],
      ["is Failed, and it was its worker that stopped", ({ body, claim, ledger, settle }) => {
        claim(10, "1")
        body("1")
        ledger.claims.get("1")!.result = "Stopped"
        settle(11, "1", "Failed", "Applied")
      }],
      ["c was refused although nothing cools", ({ ledger }) => {
        const cooling = addition("c", { gates: { cooldown: "c" } })
        additions.added(ledger, [cooling], [{ disposition: "Limited", generation: 0, due: 0 }], 0)
      }],
      ["k was to be refused, because generation 1 had not ended", ({ ledger }) => {
        const again = addition("k", { onExisting: "fail" })
        additions.added(ledger, [again], [{ disposition: "Existing", generation: 1, due: 10 }], 0)
      }],
      ["k is a redrive of generation 0, but generation 1 had ended", ({ claim, ledger, settle }) => {
        claim(10, "1")
        settle(11, "1", "Failed", "Applied")
        events.event(ledger, finished(11))
        const again = addition("k", { redrive: 0 })
        additions.added(ledger, [again], [{ disposition: "Added", generation: 2, due: 12 }], 12)
      }],
      ["second joined first, and that is due 5 ms too late", ({ ledger }) => {
        const gates = { debounce: { about: "a", for: 10, max: 15, keepsFirst: false } }
        additions.added(ledger, [addition("first", { gates })], [{ disposition: "Added", generation: 2, due: 10 }], 0)
        const joined = { disposition: "Replaced", generation: 2, due: 20, key: "first" } as const
        additions.added(ledger, [addition("second", { gates })], [joined], 9)
      }],
      ["and nobody added it", ({ ledger }) => events.event(ledger, { ...finished(10), generation: 2 })]
    ] as ReadonlyArray<readonly [string, Parameters<typeof audited>[1]]>
  ) {
    it(`says: ${text}`, () => {
      const violations = audited(false, story)
      assert.isTrue(violations.some((violation) => violation.includes(text)), violations.join("; "))
    })
  }

  describe("of a gather", () => {
    const gather = { id: "g", succeeded: 2, failed: 2, ended: 3 }
    const told = (ends: ReadonlyArray<"Success" | "Failure">, gathered: ClaimedThread["gathered"], goesOn = true) =>
      audited(false, ({ claim, ledger }) => {
        claim(10, "1", "w", { thread })
        const change: Change = { _tag: "Continue", thread, to: { _tag: "Gather", gather } }
        const members = ends.map((_, index) =>
          addition(`m${index}`, { thread: { ...thread, parent: { key: "k", generation: 1, gather: "g", index } } })
        )
        const settlement = { key: "k", generation: 1, token: "1", change, successor: undefined, members }
        settlements.settled(ledger, turn(settlement), { ...nothing, settled: ["Applied"] }, 10)
        for (const [index, _tag] of ends.entries()) {
          const member = { task: "T", key: `m${index}`, generation: 2 + index }
          events.event(ledger, { ...member, event: { _tag: "Ready", at: 10 } })
          const token = `m${index}`
          claim(10, token, "w", { ...member, thread })
          const exit = JSON.stringify({ _tag, value: "Success" })
          const change: Change = { _tag: _tag === "Success" ? "Completed" : "Failed", exit }
          settlements.settled(
            ledger,
            turn({ ...member, token, change, successor: undefined }),
            { ...nothing, settled: ["Applied"] },
            11
          )
          events.event(ledger, { ...member, event: { _tag: "Finished", at: 11, outcome: { _tag: "Exit", exit } } })
        }
        if (goesOn) events.event(ledger, { task: "T", key: "k", generation: 1, event: { _tag: "Ready", at: 11 } })
        events.caughtUp(ledger)
        if (goesOn) claim(12, "2", "w", { thread: { ...thread, gathered } })
      }, { thread })

    it("has nothing to say of one that is released when it is complete", () => {
      assert.deepStrictEqual(told(["Success", "Failure", "Success"], { succeeded: 2, failed: 1 }), [])
      assert.deepStrictEqual(told(["Failure", "Failure"], { succeeded: 0, failed: 2 }), [])
      assert.deepStrictEqual(told(["Success"], undefined, false), [])
    })

    for (
      const [text, violations] of [
        [
          "goes on with 1 that have succeeded and 1 that have not, and waits for",
          () => told(["Success", "Failure"], { succeeded: 1, failed: 1 })
        ],
        [
          "is told of {\"succeeded\":3,\"failed\":0}, and there are 2 that have succeeded and 1",
          () => told(["Success", "Failure", "Success"], { succeeded: 3, failed: 0 })
        ],
        ["has what it waits for, and does not go on", () => told(["Success", "Success"], undefined, false)]
      ] as const
    ) {
      it(`says: ${text}`, () => assert.include(violations().join("\n"), text))
    }
  })

  it("says: is due 5 ms after it, and not 1000", () => {
    const violations = audited(true, ({ body, claim, settle }) => {
      claim(10, "1")
      body("1")
      settle(11, "1", "Completed", "Applied", { due: { at: 15 }, payload: "{}", version: 1 })
    })
    assert.include(violations.join(), "is due 5 ms after it, and not 1000")
  })

  it("says: and nothing follows it", () => {
    const violations = audited(true, ({ claim, settle }) => {
      claim(10, "1")
      settle(11, "1", "Failed", "Applied")
    })
    assert.include(violations.join(), "and nothing follows it")
  })
})
