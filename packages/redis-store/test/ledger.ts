/**
 * The ledger of a scenario: each claim that the store handed out, what became of it, and whether its body began.
 *
 * It is written between the workers and their stores, so it knows what the workers were told, and nothing else.
 */
import { DocketStore } from "@effect-docket/runtime"
import { assert } from "@effect/vitest"
import { Effect, Latch } from "effect"

/** What a store said to a settlement; `Unanswered`: it failed, and may have been applied. */
interface Answer {
  readonly change: DocketStore.Change["_tag"]
  readonly answer: DocketStore.Settled | "Unanswered"
}

/** A claim. */
interface Entry {
  readonly worker: string
  readonly claim: DocketStore.Claim
  readonly answers: Array<Answer>
  begun: boolean
}

const isAccepted = ({ answer }: Answer) => answer === "Applied" || answer === "Duplicate"
const isCompleted = ({ answers }: Entry) => answers.some((one) => one.change === "Completed" && isAccepted(one))
const isReleased = ({ answers }: Entry) => answers.some((one) => one.change === "Released" && isAccepted(one))

/** What the runs of a scenario went through. */
export class Ledger {
  readonly #entries: Array<Entry> = []
  readonly #gate = Latch.makeUnsafe()
  readonly #free: number
  #begun = 0

  /** The first `free` bodies run; those that begin later wait for the gate. */
  constructor(free: number) {
    this.#free = free
  }

  /** Lets the bodies go on. */
  get open(): Effect.Effect<unknown> {
    return this.#gate.open
  }

  /** A body of a worker begins. */
  readonly begins = (worker: string) => (n: number, attempt: number): Effect.Effect<void> =>
    Effect.suspend(() => {
      const entry = this.#entries.findLast((one) =>
        one.worker === worker && one.claim.key === String(n) && one.claim.attempt === attempt && !one.begun
      )
      assert.isDefined(entry, `a body of run ${n} begins without a claim`)
      entry!.begun = true
      return this.#begun++ < this.#free ? Effect.void : this.#gate.await
    })

  /** How many runs each worker holds. */
  get held(): ReadonlyMap<string, number> {
    const held = new Map<string, number>()
    for (const { answers, begun, worker } of this.#entries) {
      if (begun && answers.length === 0) held.set(worker, (held.get(worker) ?? 0) + 1)
    }
    return held
  }

  /** Keys of the runs whose settlement was accepted. */
  get completed(): ReadonlySet<string> {
    return new Set(this.#entries.filter(isCompleted).map(({ claim }) => claim.key))
  }

  /** The store, which writes down what it is asked and says. */
  readonly recording = (store: DocketStore.DocketStore["Service"]): DocketStore.DocketStore["Service"] =>
    DocketStore.DocketStore.of({
      docket: (options) =>
        Effect.map(store.docket(options), (docket) => ({
          ...docket,
          attach: (options) =>
            Effect.map(docket.attach(options), (session) => ({
              ...session,
              turn: (request) => {
                const note = (answerOf: (index: number) => Answer["answer"]) =>
                  request.settle.forEach(({ change, key, token }, index) => {
                    const entry = this.#entries.findLast((one) =>
                      one.worker === options.worker && one.claim.key === key && one.claim.token === token
                    )
                    entry!.answers.push({ change: change._tag, answer: answerOf(index) })
                  })
                return session.turn(request).pipe(
                  Effect.tap((reply) =>
                    Effect.sync(() => {
                      note((index) => reply.settled[index]!)
                      for (const claim of reply.claimed) {
                        this.#entries.push({ worker: options.worker, claim, answers: [], begun: false })
                      }
                    })
                  ),
                  Effect.tapError(() => Effect.sync(() => note(() => "Unanswered")))
                )
              }
            }))
        }))
    })

  /**
   * Holds that each run was settled once, and that it was claimed again only where its claim was lost: after its lease, as
   * the store says and the clock of the store shows. A body belongs to one claim, so none is repeated otherwise.
   *
   * A master that takes over may not have heard of the last claims and settlements of the old one: those begun before
   * `forgetful` are done again.
   */
  check(lease: number, forgetful = -Infinity): void {
    const byKey = Map.groupBy(this.#entries, ({ claim }) => claim.key)
    for (const [key, entries] of byKey) {
      const text = `run ${key}: ${
        entries.map(({ answers, begun, claim: { attempt, lost, token }, worker }) =>
          `token ${token} of ${worker}, attempt ${attempt}, lost ${lost}, ${begun ? "begun" : "not begun"}, ${
            answers.map(({ answer, change }) => `${change} ${answer}`).join(" ") || "not settled"
          }`
        ).join("; ")
      }`
      const isForgotten = ({ claim }: Entry) => claim.startedAt <= forgetful
      // a token is a number that grows, if the store forgets nothing; replies may overtake each other
      const sorted = forgetful > 0
        ? entries
        : entries.toSorted((a, b) => Number(a.claim.token) - Number(b.claim.token))
      assert.strictEqual(new Set(entries.map(({ claim }) => claim.generation)).size, 1, `${text}: added once`)
      const [first] = sorted
      assert.strictEqual(first!.claim.attempt - 1, first!.claim.lost, `${text}: earlier claims were lost, unanswered`)
      for (let index = 1; index < sorted.length; index++) {
        const before = sorted[index - 1]!
        const after = sorted[index]!
        const lost = after.claim.lost - before.claim.lost
        if (isForgotten(before) && after.claim.attempt <= before.claim.attempt) continue
        if (isReleased(before)) {
          assert.isFalse(before.begun, `${text}: given back, and begun`)
          assert.strictEqual(after.claim.attempt - before.claim.attempt, lost, text)
          continue
        }
        assert.isAtLeast(lost, 1, `${text}: claimed again without a loss`)
        assert.strictEqual(after.claim.attempt - before.claim.attempt, lost, text)
        assert.isAtLeast(
          after.claim.startedAt - before.claim.startedAt,
          lease,
          `${text}: claimed again within its lease`
        )
        if (!isForgotten(before)) {
          assert.isFalse(before.answers.some(isAccepted), `${text}: claimed again after it was settled`)
        }
      }
      const accepted = sorted.filter(isCompleted)
      const remembered = accepted.filter((entry) => !isForgotten(entry))
      assert.isAtLeast(accepted.length, 1, `${text}: settled`)
      assert.isAtMost(remembered.length, 1, `${text}: settled once`)
      if (forgetful < 0) assert.strictEqual(accepted[0], sorted.at(-1), `${text}: settled by its last claim`)
      for (const { answers } of accepted) {
        const answered = answers.filter(({ answer }) => answer !== "Unanswered")
        assert.isAtMost(answered.length, 1, `${text}: settled once`)
        if (answered[0]?.answer === "Duplicate") {
          assert.strictEqual(answers[0]?.answer, "Unanswered", `${text}: a duplicate of what was not answered`)
        }
      }
    }
  }

  /** Holds that no body was repeated. */
  checkUndisturbed(): void {
    const begun = this.#entries.filter((entry) => entry.begun).map(({ claim }) => claim.key)
    assert.deepStrictEqual(begun.filter((key, index) => begun.indexOf(key) !== index), [], "no body is repeated")
  }
}
