import { Docket, Execution, Task, TaskGroup } from "@effect-docket/dsl"
import { Worker } from "@effect-docket/runtime"
import { DocketTest } from "@effect-docket/runtime/testing"
import { assert, describe, it } from "@effect/vitest"
import {
  Context,
  DateTime,
  Deferred,
  Duration,
  Effect,
  Exit,
  Fiber,
  Latch,
  Layer,
  Option,
  Schedule,
  Schema,
  Scope,
  Stream
} from "effect"
import * as Kit from "./Kit.ts"

class Declared extends Schema.TaggedError<Declared>()("Declared", { why: Schema.String }) {}

/** One attempt, so that a fault is one start. */
class Faulty extends Task.make("Faulty", {
  success: Schema.NonEmptyString,
  error: Declared,
  key: () => "faulty",
  defectRetryPolicy: Schedule.recurs(0)
}) {}
class Limited extends Task.make("Limited", {
  success: Schema.String,
  key: () => "limited",
  timeout: "1 second",
  defectRetryPolicy: Schedule.recurs(0)
}) {}
class Healthy extends Task.make("Healthy", { success: Schema.String }) {}
class All extends TaskGroup.make(Faulty, Limited, Healthy) {}

type Handler<R = Task.HandlerServices> = () => Effect.Effect<string, Declared, R>

const bundle = (
  handlers: { readonly faulty?: Handler; readonly limited?: () => Effect.Effect<string, never, Task.HandlerServices> }
) =>
  Kit.live(
    All,
    All.toLayer({
      Faulty: handlers.faulty ?? (() => Effect.succeed("ok")),
      Limited: handlers.limited ?? (() => Effect.succeed("ok")),
      Healthy: () => Effect.succeed("alive")
    })
  )

/** Runs a faulty handler once and a healthy one after it, in one slot of one worker; the error of the faulty one. */
const survives = (handler: Handler) => {
  let starts = 0
  return Effect.gen(function*() {
    const faulty = yield* Docket.add(Faulty)
    const healthy = yield* Docket.add(Healthy, undefined, { after: "1 hour" })
    const report = yield* DocketTest.drain(All, { concurrency: 1 })
    assert.strictEqual(yield* healthy.await, "alive")
    assert.deepStrictEqual(report, { succeeded: 1, failed: 1, retried: 0 })
    assert.strictEqual(starts, 1)
    const letters = yield* Stream.runCollect(Docket.deadLetters(Faulty))
    assert.deepStrictEqual(letters.map(({ attempts, key }) => ({ attempts, key })), [{ attempts: 1, key: "faulty" }])
    return yield* Effect.flip(faulty.await)
  }).pipe(Effect.provide(bundle({
    faulty: () => {
      starts++
      return handler()
    }
  })))
}

/** The message of the defect that a handler ends with. */
const defectOf = (handler: Handler) => Effect.map(survives(handler), Kit.defectOf)

const dies = (defect: unknown) => defectOf(() => Effect.die(defect))

/** A value whose every touch throws. */
const untouchable = (target: object) => {
  const no = () => {
    throw new Error("do not touch")
  }
  return new Proxy(target, {
    get: no,
    has: no,
    ownKeys: no,
    getPrototypeOf: no,
    getOwnPropertyDescriptor: no,
    set: no,
    apply: no
  })
}

describe("Faults of a handler", () => {
  describe("end as a typed failure, and the same worker goes on", () => {
    it.effect("a declared error arrives as it was", () =>
      Effect.gen(function*() {
        const error = yield* survives(() => Effect.fail(new Declared({ why: "no stock" })))
        assert.instanceOf(error, Declared)
        assert.deepStrictEqual({ ...error }, { ...new Declared({ why: "no stock" }) })
      }))

    it.effect("a throw before the effect is a defect with its message", () =>
      Effect.gen(function*() {
        const message = yield* defectOf(() => {
          throw new Error("thrown at once")
        })
        assert.strictEqual(message, "the handler died: thrown at once")
      }))

    it.effect("a throw inside the effect is a defect", () =>
      Effect.gen(function*() {
        const message = yield* defectOf(() =>
          Effect.sync(() => {
            throw new TypeError("thrown inside")
          })
        )
        assert.strictEqual(message, "the handler died: thrown inside")
      }))

    it.effect("a rejected promise is a defect", () =>
      Effect.gen(function*() {
        const message = yield* defectOf(() => Effect.promise(() => Promise.reject(new Error("rejected"))))
        assert.strictEqual(message, "the handler died: rejected")
      }))

    it.effect("a defect names the task and the key", () =>
      Effect.gen(function*() {
        const error = yield* survives(() => Effect.die(new Error("boom")))
        assert.strictEqual(
          error instanceof Error ? error.message : "",
          "task \"Faulty\", key \"faulty\": the handler died: boom"
        )
      }))

    it.effect("an error that was smuggled past the types is a defect that says so", () =>
      Effect.gen(function*() {
        for (const smuggled of [new Error("secret passage"), "text", { _tag: "Other" }, undefined]) {
          const message = yield* defectOf(() => Effect.fail(smuggled as never)) // past the types on purpose
          assert.include(message, "its error does not fit the schema")
        }
      }))

    it.effect("an error that its own schema refuses is a defect", () =>
      Effect.gen(function*() {
        const refused = Object.assign(Object.create(Declared.prototype) as Declared, { _tag: "Declared", why: 3 })
        assert.include(yield* defectOf(() => Effect.fail(refused)), "its error does not fit the schema")
      }))

    it.effect("a success that its schema refuses is a defect that names the problem", () =>
      Effect.gen(function*() {
        const message = yield* defectOf(() => Effect.succeed(""))
        assert.include(message, "its success does not fit the schema")
        assert.include(message, "length")
        for (const value of [undefined, 3, {}, untouchable({}), Symbol("s")]) {
          const refused = yield* defectOf(() => Effect.succeed(value as never)) // past the types on purpose
          assert.include(refused, "its success does not fit the schema")
        }
      }))

    it.effect("a handler that returns no effect is a defect", () =>
      Effect.gen(function*() {
        for (const value of [undefined, null, 3, Promise.resolve("x"), {}]) {
          const none = value as unknown as Effect.Effect<string> // past the types on purpose
          assert.include(yield* defectOf(() => none), "Not a valid effect")
          assert.include(yield* defectOf(() => Effect.flatMap(Effect.yieldNow, () => none)), "Not a valid effect")
        }
      }))

    it.effect("the scope of a body that yields what is no effect is closed", () =>
      Effect.gen(function*() {
        const closed: Array<string> = []
        const none = 3 as unknown as Effect.Effect<string> // past the types on purpose
        yield* defectOf(() =>
          Effect.flatMap(Effect.addFinalizer((exit) => Effect.sync(() => closed.push(exit._tag))), () => none)
        )
        assert.deepStrictEqual(closed, ["Failure"])
      }))

    it.effect("a handler that interrupts itself is a defect that says so", () =>
      Effect.gen(function*() {
        const itself = "the handler died: the handler interrupted itself; nobody had asked for it"
        assert.strictEqual(yield* defectOf(() => Effect.interrupt), itself)
        assert.strictEqual(
          yield* defectOf(() =>
            Effect.withFiber((fiber) => {
              fiber.interruptUnsafe()
              return Effect.never
            })
          ),
          itself
        )
        assert.strictEqual(
          yield* defectOf(() =>
            Effect.gen(function*() {
              const child = yield* Effect.forkChild(Effect.never)
              yield* Fiber.interrupt(child)
              return yield* Fiber.join(child)
            })
          ),
          itself
        )
      }))

    it.effect("a defect that cannot be encoded is replaced by a text", () =>
      Effect.gen(function*() {
        const cycle: Record<string, unknown> = { name: "cycle" }
        cycle["self"] = cycle
        const errorWithCycle = Object.assign(new Error("round"), cycle)
        const revoked = Proxy.revocable({}, {})
        revoked.revoke()
        const throwing = {
          get message(): string {
            throw new Error("no message")
          },
          toString: () => {
            throw new Error("no text")
          },
          toJSON: () => {
            throw new Error("no json")
          }
        }
        const errorWithThrowingMessage = Object.defineProperty(new Error(), "message", {
          get: () => {
            throw new Error("no message")
          }
        })
        const values: ReadonlyArray<unknown> = [
          undefined,
          null,
          0,
          Number.NaN,
          1n,
          "text",
          "",
          () => 1,
          Symbol("s"),
          cycle,
          errorWithCycle,
          [cycle],
          new Map([[cycle, cycle]]),
          Object.create(null),
          throwing,
          errorWithThrowingMessage,
          untouchable({}),
          untouchable(() => 1),
          untouchable(new Error("deep")),
          revoked.proxy,
          { big: 1n },
          new Error("x", { cause: cycle }),
          new AggregateError([new Error("a")], "all"),
          "x".repeat(1_000_000)
        ]
        for (const value of values) assert.include(yield* dies(value), "the handler died")
        assert.include(yield* dies(errorWithCycle), "round")
      }), 20_000)

    it.effect("a body that never ends is stopped at its timeout, which the message names", () =>
      Effect.gen(function*() {
        let finalized = false
        const layer = bundle({
          limited: () =>
            Effect.never.pipe(Effect.onInterrupt(() =>
              Effect.sync(() => {
                finalized = true
              })
            ))
        })
        yield* Effect.gen(function*() {
          const run = yield* Docket.add(Limited)
          const healthy = yield* Docket.add(Healthy, undefined, { after: "1 hour" })
          const report = yield* DocketTest.drain(All, { concurrency: 1 })
          assert.deepStrictEqual(report, { succeeded: 1, failed: 1, retried: 0 })
          const error = yield* Effect.flip(run.await)
          assert.strictEqual(error.message, "task \"Limited\", key \"limited\": it ran longer than its timeout of 1s")
          const reason = Kit.reasonOf(error)
          assert.isTrue(reason._tag === "Timeout" && Duration.toMillis(reason.limit) === 1000)
          assert.isTrue(finalized)
          assert.strictEqual(yield* healthy.await, "alive")
        }).pipe(Effect.provide(layer))
      }))

    it.effect("a body that ignores interruption is settled without it some seconds after its timeout", () => {
      const { at, layer } = Kit.logs()
      return Effect.gen(function*() {
        const run = yield* Docket.add(Limited)
        const healthy = yield* Docket.add(Healthy, undefined, { after: "1 minute" })
        const report = yield* DocketTest.drain(All, { concurrency: 1 })
        assert.strictEqual(Kit.reasonOf(yield* Effect.flip(run.await))._tag, "Timeout")
        assert.deepStrictEqual(report, { succeeded: 1, failed: 1, retried: 0 })
        assert.strictEqual(yield* healthy.await, "alive")
        const [line] = at("Error")
        assert.include(line?.message, "ignores interruption (Timeout)")
        assert.deepStrictEqual(line?.annotations, { task: "Limited", key: "limited", attempt: 1 })
      }).pipe(
        Effect.provide(Layer.provideMerge(bundle({ limited: () => Effect.uninterruptible(Effect.never) }), layer))
      )
    })

    it.effect("what an abandoned body does later changes nothing", () =>
      Effect.gen(function*() {
        const gate = yield* Latch.make()
        let ended = 0
        yield* Effect.gen(function*() {
          const run = yield* Docket.add(Limited)
          yield* DocketTest.drain(All)
          assert.strictEqual(Kit.reasonOf(yield* Effect.flip(run.await))._tag, "Timeout")
          yield* gate.open
          yield* Kit.settle
          assert.strictEqual(ended, 1)
          assert.strictEqual(Kit.reasonOf(yield* Effect.flip(run.await))._tag, "Timeout")
          assert.deepStrictEqual(yield* DocketTest.drain(All), { succeeded: 0, failed: 0, retried: 0 })
        }).pipe(Effect.provide(bundle({
          limited: () =>
            Effect.uninterruptible(Effect.as(Effect.andThen(gate.await, Effect.sync(() => ended++)), "late"))
        })))
      }))

    it.effect("a body that may not be interrupted ends in peace, and still ran longer than its timeout", () =>
      Effect.gen(function*() {
        let saved = 0
        yield* Effect.gen(function*() {
          const run = yield* Docket.add(Limited)
          yield* DocketTest.drain(All)
          // an Effect that was interrupted in an uninterruptible region ends as interrupted: its value is gone
          assert.strictEqual(Kit.reasonOf(yield* Effect.flip(run.await))._tag, "Timeout")
          assert.strictEqual(saved, 1)
        }).pipe(Effect.provide(bundle({
          limited: () =>
            Effect.sleep("3 seconds").pipe(
              Effect.as("saved"),
              Effect.tap(() => Effect.sync(() => saved++)),
              Effect.uninterruptible
            )
        })))
      }))
  })

  describe("cancelling a body", () => {
    /** A run that is under way in a worker. */
    const running = (body: (started: Deferred.Deferred<void>) => Handler) =>
      Effect.gen(function*() {
        const started = yield* Deferred.make<void>()
        const services = yield* Layer.build(bundle({ faulty: body(started) }))
        yield* Layer.build(Worker.layer(All, { concurrency: 1 })).pipe(Effect.provide(services))
        const run = yield* Docket.add(Faulty).pipe(Effect.provide(services))
        yield* Deferred.await(started)
        return { run, services }
      })

    it.effect("interrupts it, runs its finalizers, and ends as cancelled", () =>
      Effect.gen(function*() {
        let finalized = false
        const { run, services } = yield* running((started) => () =>
          Effect.andThen(Deferred.succeed(started, undefined), Effect.never).pipe(
            Effect.onInterrupt(() =>
              Effect.sync(() => {
                finalized = true
              })
            )
          )
        )
        assert.isTrue(yield* run.cancel)
        assert.strictEqual(Kit.reasonOf(yield* Effect.flip(run.await))._tag, "Cancelled")
        assert.isTrue(finalized)
        assert.isFalse(yield* run.cancel)
        const healthy = yield* Docket.add(Healthy).pipe(Effect.provide(services))
        assert.strictEqual(yield* healthy.await, "alive")
      }))

    it.effect("waits for a body that may not be interrupted; its value is gone", () =>
      Effect.gen(function*() {
        const gate = yield* Latch.make()
        let ended = 0
        const { run, services } = yield* running((started) => () =>
          Deferred.succeed(started, undefined).pipe(
            Effect.andThen(gate.await),
            Effect.andThen(Effect.sync(() => ended++)),
            Effect.as("done"),
            Effect.uninterruptible
          )
        )
        assert.isTrue(yield* run.cancel)
        yield* Kit.settle
        assert.isTrue(Option.isNone(yield* run.poll))
        yield* gate.open
        // an Effect that was interrupted in an uninterruptible region ends as interrupted, whatever it came to
        assert.strictEqual(Kit.reasonOf(yield* Effect.flip(run.await))._tag, "Cancelled")
        assert.strictEqual(ended, 1)
        const healthy = yield* Docket.add(Healthy).pipe(Effect.provide(services))
        assert.strictEqual(yield* healthy.await, "alive")
      }))

    it.effect("is not undone by a finalizer that dies", () =>
      Effect.gen(function*() {
        const { run, services } = yield* running((started) => () =>
          Effect.andThen(Deferred.succeed(started, undefined), Effect.never).pipe(
            Effect.onInterrupt(() => Effect.die(new Error("bad finalizer")))
          )
        )
        assert.isTrue(yield* run.cancel)
        assert.strictEqual(Kit.reasonOf(yield* Effect.flip(run.await))._tag, "Cancelled")
        const healthy = yield* Docket.add(Healthy).pipe(Effect.provide(services))
        assert.strictEqual(yield* healthy.await, "alive")
      }))
  })

  describe("the scope of a body", () => {
    it.effect("a finalizer that dies after success is logged once; the run stays completed and ran once", () => {
      const { at, layer } = Kit.logs()
      let starts = 0
      return Effect.gen(function*() {
        const run = yield* Docket.add(Faulty)
        const healthy = yield* Docket.add(Healthy, undefined, { after: "1 hour" })
        const report = yield* DocketTest.drain(All, { concurrency: 1 })
        assert.strictEqual(yield* run.await, "done")
        assert.strictEqual(yield* healthy.await, "alive")
        assert.deepStrictEqual(report, { succeeded: 2, failed: 0, retried: 0 })
        assert.strictEqual(starts, 1)
        assert.strictEqual(at("Error").length, 1)
        assert.include(at("Error")[0]?.message, "a finalizer died after the body had ended")
        assert.include(at("Error")[0]?.text, "bad finalizer")
        assert.deepStrictEqual(at("Error")[0]?.annotations, { task: "Faulty", key: "faulty", attempt: 1 })
      }).pipe(
        Effect.provide(Layer.provideMerge(
          bundle({
            faulty: () =>
              Effect.sync(() => starts++).pipe(
                Effect.andThen(Effect.addFinalizer(() => Effect.die(new Error("bad finalizer")))),
                Effect.as("done")
              )
          }),
          layer
        ))
      )
    })

    it.effect("is closed when the attempt ends, with its exit, before the outcome is visible", () =>
      Effect.gen(function*() {
        const seen: Array<readonly [tag: string, state: string | undefined]> = []
        const handlers = Effect.gen(function*() {
          const docket = yield* Docket.Docket
          return All.of({
            Faulty: () =>
              Effect.addFinalizer((exit) =>
                Effect.flatMap(
                  Effect.orDie(docket.get("faulty")),
                  (run) => Effect.sync(() => seen.push([exit._tag, run?.state]))
                )
              ).pipe(Effect.andThen(Effect.fail(new Declared({ why: "x" })))),
            Limited: () =>
              Effect.acquireRelease(
                Effect.succeed("resource"),
                (_, exit) => Effect.sync(() => seen.push([exit._tag, "limited"]))
              ),
            Healthy: () => Effect.succeed("alive")
          })
        })
        yield* Effect.gen(function*() {
          yield* Docket.add(Faulty)
          const limited = yield* Docket.add(Limited)
          yield* DocketTest.drain(All, { concurrency: 1 })
          assert.strictEqual(yield* limited.await, "resource")
          assert.deepStrictEqual(seen, [["Failure", "Running"], ["Success", "limited"]])
        }).pipe(Effect.provide(Kit.live(All, All.toLayer(handlers))))
      }))

    it.effect("each attempt has its own", () =>
      Effect.gen(function*() {
        const scopes = new Set<Scope.Scope>()
        let closed = 0
        class Again extends Task.make("Again") {}
        const group = TaskGroup.make(Again)
        yield* Effect.gen(function*() {
          yield* Docket.add(Again)
          yield* DocketTest.drain(group)
          assert.strictEqual(scopes.size, 4)
          assert.strictEqual(closed, 4)
        }).pipe(Effect.provide(Kit.live(
          group,
          Again.toLayer(() =>
            Effect.gen(function*() {
              scopes.add(yield* Scope.Scope)
              yield* Effect.addFinalizer(() => Effect.sync(() => closed++))
              return yield* Effect.die("again")
            })
          )
        )))
      }))

    it.effect("children that a body forked end with it", () =>
      Effect.gen(function*() {
        const ended: Array<string> = []
        const forever = (name: string) =>
          Effect.never.pipe(Effect.onInterrupt(() => Effect.sync(() => ended.push(name))))
        yield* Effect.gen(function*() {
          const run = yield* Docket.add(Faulty)
          yield* DocketTest.drain(All)
          assert.strictEqual(yield* run.await, "done")
          assert.deepStrictEqual(ended.toSorted(), ["child", "scoped"])
        }).pipe(Effect.provide(bundle({
          faulty: () =>
            Effect.gen(function*() {
              yield* Effect.forkChild(forever("child"), { startImmediately: true })
              yield* Effect.forkScoped(forever("scoped"), { startImmediately: true })
              return "done"
            })
        })))
      }))

    it.effect("a child that dies does not touch the body", () =>
      Effect.gen(function*() {
        const run = yield* Docket.add(Faulty)
        yield* DocketTest.drain(All)
        assert.strictEqual(yield* run.await, "done")
      }).pipe(Effect.provide(bundle({
        faulty: () =>
          Effect.gen(function*() {
            yield* Effect.forkChild(Effect.die("child"), { startImmediately: true })
            yield* Effect.forkScoped(Effect.die("scoped"), { startImmediately: true })
            return "done"
          })
      }))))
  })

  describe("what a handler finds", () => {
    class Greeter
      extends Context.Service<Greeter, { readonly greet: (name: string) => Effect.Effect<string> }>()("test/Greeter")
    {}

    it.effect("the services that its layer was built among, and its own run", () =>
      Effect.gen(function*() {
        class Greet
          extends Task.make("Greet", { payload: { name: Schema.String }, success: Schema.String, key: ["name"] })
        {}
        const group = TaskGroup.make(Greet)
        const seen: Array<unknown> = []
        const handlers = Greet.toLayer(({ name }) =>
          Effect.gen(function*() {
            const execution = yield* Execution.CurrentExecution
            seen.push({
              docket: execution.docket,
              task: execution.task,
              key: execution.key,
              attempt: execution.attempt,
              scheduledAt: DateTime.toEpochMillis(execution.scheduledAt),
              startedAt: DateTime.toEpochMillis(execution.startedAt),
              flow: execution.flow
            })
            return yield* (yield* Greeter).greet(name)
          })
        ).pipe(Layer.provide(Layer.succeed(Greeter, { greet: (name) => Effect.succeed(`hello ${name}`) })))
        yield* Effect.gen(function*() {
          const run = yield* Docket.add(Greet, { name: "Ada" }, { after: "1 minute" })
          yield* DocketTest.drain(group)
          assert.strictEqual(yield* run.await, "hello Ada")
          assert.deepStrictEqual(seen, [{
            docket: "test",
            task: "Greet",
            key: "Greet/Ada",
            attempt: 1,
            scheduledAt: 60_000,
            startedAt: 60_000,
            flow: Option.none()
          }])
        }).pipe(Effect.provide(Kit.live(group, handlers)))
      }))

    it.effect("payloads and results of a megabyte pass", () =>
      Effect.gen(function*() {
        class Echo extends Task.make("Echo", { payload: { text: Schema.String }, success: Schema.String }) {}
        const group = TaskGroup.make(Echo)
        const text = "ä\n\"{}\u0000".repeat(70_000)
        yield* Effect.gen(function*() {
          const run = yield* Docket.add(Echo, { text })
          yield* DocketTest.drain(group)
          assert.isTrue((yield* run.await) === text)
        }).pipe(Effect.provide(Kit.live(group, Echo.toLayer((payload) => Effect.succeed(payload.text)))))
      }))

    class Parent extends Task.make("Parent", { success: Schema.String }) {}
    class Child extends Task.make("Child", { success: Schema.String }) {}
    class Family extends TaskGroup.make(Parent, Child) {}

    it.effect("the docket: it adds tasks, which run in the same worker", () =>
      Effect.gen(function*() {
        const ran: Array<string> = []
        const handlers = Family.toLayer({
          Parent: () =>
            Docket.addAll([[Child, undefined], [Child, undefined], [Child, undefined]]).pipe(
              Effect.orDie,
              Effect.as("parent")
            ),
          Child: () => Effect.sync(() => (ran.push("child"), "child"))
        }).pipe(Layer.provide(Family.client))
        yield* Effect.gen(function*() {
          yield* Docket.add(Parent)
          assert.deepStrictEqual(yield* DocketTest.drain(Family, { concurrency: 1 }), {
            succeeded: 4,
            failed: 0,
            retried: 0
          })
          assert.strictEqual(ran.length, 3)
        }).pipe(Effect.provide(Kit.live(Family, handlers)))
      }))

    const waiting = Family.toLayer({
      Parent: () => Effect.flatMap(Effect.orDie(Docket.add(Child)), (child) => Effect.orDie(child.await)),
      Child: () => Effect.succeed("from the child")
    }).pipe(Layer.provide(Family.client))

    it.effect("a handler that waits for another run gets its value when there is a slot for it", () =>
      Effect.gen(function*() {
        const run = yield* Docket.add(Parent)
        yield* DocketTest.drain(Family, { concurrency: 2 })
        assert.strictEqual(yield* run.await, "from the child")
      }).pipe(Effect.provide(Kit.live(Family, waiting))))

    it.effect("with one slot both wait, visibly, and a drain with an end still ends", () =>
      Effect.gen(function*() {
        const parent = yield* Docket.add(Parent)
        const report = yield* DocketTest.drain(Family, { concurrency: 1, for: "1 minute" })
        assert.deepStrictEqual(report, { succeeded: 0, failed: 0, retried: 0 })
        assert.isTrue(Option.isNone(yield* parent.poll))
        // the parent was released, nothing is lost, and with a slot more both end
        yield* DocketTest.drain(Family, { concurrency: 2 })
        assert.strictEqual(yield* parent.await, "from the child")
      }).pipe(Effect.provide(Kit.live(Family, waiting))), 20_000)
  })

  describe("what was stored by somebody else", () => {
    class Typed extends Task.make("Typed", { payload: { n: Schema.Int } }) {}
    class Others extends TaskGroup.make(Typed, Healthy) {}
    const handlers = Others.toLayer({ Typed: () => Effect.void, Healthy: () => Effect.succeed("alive") })

    for (const payload of ["not json", "", "null", "[]", "{\"n\":\"text\"}", "{\"n\":1.5}", "{}", "{\"n\":"]) {
      it.effect(`a payload that does not decode is a dead letter after one claim: ${JSON.stringify(payload)}`, () =>
        Effect.gen(function*() {
          const docket = yield* Docket.Docket
          yield* docket.addEncoded([Kit.encoded({ task: "Typed", key: "k", payload })], { atomic: true })
          const healthy = yield* Docket.add(Healthy, undefined, { after: "1 hour" })
          assert.deepStrictEqual(yield* DocketTest.drain(Others, { concurrency: 1 }), {
            succeeded: 1,
            failed: 1,
            retried: 0
          })
          assert.strictEqual(yield* healthy.await, "alive")
          const [letter] = yield* Stream.runCollect(Docket.deadLetters(Typed))
          assert.isDefined(letter)
          assert.strictEqual(letter.attempts, 1)
          const reason = Kit.reasonOf(letter.error)
          assert.strictEqual(reason._tag, "Undecodable")
          assert.include(reason.message, "its payload does not decode")
          assert.deepStrictEqual(letter.payload as unknown, payload)
        }).pipe(Effect.provide(Kit.live(Others, handlers))))
    }

    it.effect("a task that no group knows is held, warned about once, and run by a worker that knows it", () => {
      const { at, layer } = Kit.logs()
      class Foreign extends Task.make("Foreign") {}
      class Newer extends TaskGroup.make(Foreign) {}
      return Effect.gen(function*() {
        const docket = yield* Docket.Docket
        yield* docket.addEncoded([
          Kit.encoded({ task: "Foreign", key: "f1" }),
          Kit.encoded({ task: "Foreign", key: "f2" })
        ], { atomic: true })
        const healthy = yield* Docket.add(Healthy, undefined, { after: "1 hour" })
        assert.deepStrictEqual(yield* DocketTest.drain(Others), { succeeded: 1, failed: 0, retried: 0 })
        assert.strictEqual(yield* healthy.await, "alive")
        const warnings = at("Warn").filter(({ message }) => message.includes("Foreign"))
        assert.deepStrictEqual(warnings.map(({ message }) => message), [
          "2 due runs of task \"Foreign\" (version 1, lane \"default\") are held: no worker has a handler for them"
        ])
        assert.strictEqual((yield* docket.get("f1"))?.attempt, 0)
        assert.strictEqual((yield* docket.explain("f1"))._tag, "NoWorker")
        const report = yield* DocketTest.drain(Newer).pipe(Effect.provide(Foreign.toLayer(() => Effect.void)))
        assert.strictEqual(report.failed, 2) // its payload is not `void`: they were claimed, and say why they failed
      }).pipe(Effect.provide(Layer.provideMerge(Kit.live(Others, handlers), layer)))
    })

    it.effect("a result that does not decode with the schema of the reader is `Undecodable`, not a hang", () =>
      Effect.gen(function*() {
        class Old extends Task.make("Changed", { success: Schema.String, key: () => "changed" }) {}
        class New extends Task.make("Changed", { success: Schema.Int, key: () => "changed" }) {}
        const group = TaskGroup.make(Old)
        yield* Effect.gen(function*() {
          yield* Docket.add(Old)
          yield* DocketTest.drain(group)
          const handle = Option.getOrThrow(yield* Docket.get(New, "changed"))
          const reason = Kit.reasonOf(yield* Effect.flip(handle.await))
          assert.strictEqual(reason._tag, "Undecodable")
          assert.include(reason.message, "its result does not decode")
          const exit = Option.getOrThrow(yield* handle.poll)
          assert.isTrue(Exit.isFailure(exit))
        }).pipe(Effect.provide(Kit.live(group, Old.toLayer(() => Effect.succeed("text")))))
      }))
  })

  describe("versions", () => {
    class Current extends Task.make("Versioned", {
      payload: {
        id: Schema.String,
        retries: Schema.Int.pipe(Schema.withConstructorDefault(Effect.succeed(3))),
        at: Schema.DateTimeUtc
      },
      success: Schema.Struct({ id: Schema.String, retries: Schema.Int, at: Schema.DateTimeUtc }),
      version: 3,
      migrate: (stored, version) => {
        calls.push([stored, version])
        if (version === 1) throw new Error("too old")
        return { id: (stored as { readonly name: string }).name, at: DateTime.makeUnsafe(7) }
      }
    }) {}
    const calls: Array<readonly [unknown, number]> = []
    const group = TaskGroup.make(Current)
    const layer = Kit.live(group, Current.toLayer(Effect.succeed))

    const runOf = (version: number, payload: string) =>
      Effect.gen(function*() {
        const docket = yield* Docket.Docket
        yield* docket.addEncoded([Kit.encoded({ task: "Versioned", key: "v", version, payload })], { atomic: true })
        const report = yield* DocketTest.drain(group)
        return { report, run: Option.getOrThrow(yield* Docket.get(Current, "v")) }
      })

    it.effect("`migrate` gets the stored JSON and its version; its result is constructor input", () =>
      Effect.gen(function*() {
        const { run } = yield* runOf(2, "{\"name\":\"old\",\"more\":[1]}")
        assert.deepStrictEqual(calls.filter(([, version]) => version === 2), [[{ name: "old", more: [1] }, 2]])
        assert.deepStrictEqual(yield* run.await, { id: "old", retries: 3, at: DateTime.makeUnsafe(7) })
      }).pipe(Effect.provide(layer)))

    it.effect("a payload of this version is not migrated", () =>
      Effect.gen(function*() {
        const before = calls.filter(([, version]) => version === 3).length
        const { run } = yield* runOf(3, "{\"id\":\"new\",\"retries\":1,\"at\":\"1970-01-01T00:00:00.000Z\"}")
        assert.strictEqual((yield* run.await).id, "new")
        assert.strictEqual(calls.filter(([, version]) => version === 3).length, before)
      }).pipe(Effect.provide(layer)))

    it.effect("a migration that throws, or whose result does not fit, is a dead letter with its message", () =>
      Effect.gen(function*() {
        const { report, run } = yield* runOf(1, "{}")
        assert.deepStrictEqual(report, { succeeded: 0, failed: 1, retried: 0 })
        const reason = Kit.reasonOf(yield* Effect.flip(run.await))
        assert.strictEqual(reason._tag, "Undecodable")
        assert.include(reason.message, "too old")
        const second = yield* runOf(2, "{\"name\":3}")
        const refused = Kit.reasonOf(yield* Effect.flip(second.run.await))
        assert.strictEqual(refused._tag, "Undecodable")
        assert.include(refused.message, "id")
      }).pipe(Effect.provide(layer)))

    it.effect("a newer version is held, not failed", () =>
      Effect.gen(function*() {
        const { report, run } = yield* runOf(4, "{}")
        assert.deepStrictEqual(report, { succeeded: 0, failed: 0, retried: 0 })
        assert.isTrue(Option.isNone(yield* run.poll))
        assert.strictEqual((yield* Docket.explain("v"))._tag, "NoWorker")
      }).pipe(Effect.provide(layer)))
  })
})
