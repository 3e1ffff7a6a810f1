/**
 * Bytes that nobody wrote, in a real server: a worker goes on, what can be run is run, and what cannot is seen.
 */
import { Docket } from "@effect-docket/dsl"
import { RedisStore } from "@effect-docket/redis-store"
import { Worker } from "@effect-docket/runtime"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Option, Stream } from "effect"
import type { Redis } from "ioredis"
import * as Chaos from "../../runtime/test/fuzz/Chaos.ts"
import * as Stored from "../../runtime/test/fuzz/Stored.ts"
import { readMore } from "../src/internal/layout.ts"
import { readDone, readMember, readRefused } from "../src/internal/outcomes.ts"
import { readHeld, readRecord } from "../src/internal/records.ts"
import { readTexts } from "../src/internal/texts.ts"
import { docketIn, logs, range, uniqueName } from "./kit.ts"
import * as servers from "./server.ts"

const server = servers.shared(servers.start())

const liveIn = (url: string, name: string) =>
  Layer.mergeAll(Stored.JobsLive, Stored.Jobs.client).pipe(
    Layer.provideMerge(docketIn(RedisStore.layer({ url }), name)),
    Layer.provideMerge(logs().layer)
  )

/** A worker, until these runs have ended. */
const drain = (keys: ReadonlyArray<string>) =>
  Effect.scoped(Effect.gen(function*() {
    const docket = yield* Docket.Docket
    yield* Layer.build(Worker.layer(Stored.Jobs, { flows: [Stored.Steps], drainTimeout: 0 }))
    yield* servers.until(Effect.map(
      Effect.forEach(keys, docket.get),
      (runs) => runs.every((run) => run === undefined || run.state === "Completed" || run.state === "Failed")
    ))
  }))

describe("arbitrary bytes in a server", () => {
  it.live("stop no worker and break no reader", () =>
    Effect.gen(function*() {
      const { url } = yield* server
      for (const n of range(Math.ceil(Chaos.cases / 5))) {
        const seed = Chaos.seed + n
        const chaos = yield* Chaos.make(seed)
        yield* Stored.survive(chaos, drain).pipe(
          Effect.provide(liveIn(url, uniqueName()), { local: true }),
          Effect.catchDefect((defect) => Effect.die(new Error(`FUZZ_CASES=5 FUZZ_SEED=${seed}`, { cause: defect })))
        )
      }
    }))
})

/** Ways in which something else may change what is stored of a run. */
const damages: Readonly<Record<string, (record: Buffer, chaos: Chaos.Chaos) => Buffer>> = {
  "is empty": () => Buffer.alloc(0),
  "is cut short": (record, chaos) => record.subarray(0, chaos.int(record.length)),
  "has another byte": (record, chaos) => {
    const changed = Buffer.from(record)
    changed[chaos.int(record.length)] = chaos.int(256)
    return changed
  },
  "has no state": (record, chaos) => Buffer.concat([Buffer.from([chaos.pick([0, 11, 255])]), record.subarray(1)]),
  "is of another group": (record) => {
    const changed = Buffer.from(record)
    changed.write("9/zz/Q", 86)
    return changed
  },
  "is something else": (_, chaos) => Buffer.from(chaos.name())
}

/** What may lie in the indexes of a group, or beside a run. */
const litter = (admin: Redis, name: string, chaos: Chaos.Chaos) => {
  const key = (part: string) => `docket:{${name}}:${part}`
  const group = (part: string) => key(`g:1/default/Beside:${part}`)
  return Effect.promise(() =>
    Promise.all([
      admin.lpush(group("ready"), chaos.name()),
      admin.zadd(group("prio"), 0, chaos.name()),
      admin.zadd(group("due"), 0, chaos.name()),
      admin.zadd(group("lease"), 0, chaos.name()),
      admin.hset(key("notes"), "victim", chaos.name()),
      admin.set(key("done:victim"), chaos.name(), "PX", 60_000),
      admin.zadd(key("failed:Beside"), 0, "victim")
    ])
  )
}

describe("a record that something else has written", () => {
  for (const [damage, change] of Object.entries(damages)) {
    it.live(`${damage}: it is seen, the others run, and its key can be added again`, () =>
      Effect.gen(function*() {
        const { admin, url } = yield* server
        for (const n of range(Math.ceil(Chaos.cases / 25))) {
          const seed = Chaos.seed + n
          const chaos = yield* Chaos.make(seed)
          const name = uniqueName()
          yield* Effect.gen(function*() {
            const docket = yield* Docket.Docket
            const add = (key: string, options?: Docket.AddOptions) =>
              Docket.add(Stored.Beside, { n: 1 }, { ...options, key })
            const others = [...range(5).map(String), "later"]
            yield* add("victim", { after: chaos.int(2) })
            yield* Effect.forEach(others, (key) => add(key, { after: key === "later" ? 50 : 0 }))
            const runs = `docket:{${name}}:runs`
            const record = yield* Effect.promise(() => admin.hgetBuffer(runs, "victim"))
            // hset takes bytes as well
            yield* Effect.promise(() => admin.hset(runs, "victim", change(record!, chaos) as unknown as string))
            if (chaos.int(2) === 0) yield* litter(admin, name, chaos)
            yield* drain(others)
            yield* Stored.orderly("reading", docket.get("victim"))
            yield* Stored.orderly("explaining", docket.explain("victim"))
            yield* Stored.orderly("a snapshot", Stream.runDrain(docket.snapshot))
            yield* Stored.orderly("counts", docket.counts)
            yield* Stored.orderly("dead letters", Stream.runDrain(Docket.deadLetters(Stored.Beside)))
            yield* Stored.orderly("the outcome", docket.outcome("victim", 1))
            // it is there, or it has ended; its retention may be among what was changed
            const run = yield* docket.get("victim")
            if (damage !== "has another byte") assert.isDefined(run)
            yield* Stored.orderly("cancelling", docket.cancel("victim"))
            // what else leads to it may be gone as well: then that is said
            const again = yield* Effect.option(add("victim", { onExisting: "replace" }))
            if (Option.isSome(again)) {
              yield* drain(["victim"])
              assert.strictEqual(yield* again.value.await, 1)
            } else assert.strictEqual(damage, "has another byte")
            yield* docket.clear
          }).pipe(
            Effect.provide(liveIn(url, name), { local: true }),
            Effect.catchDefect((defect) => Effect.die(new Error(`FUZZ_CASES=25 FUZZ_SEED=${seed}`, { cause: defect })))
          )
        }
      }))
  }
})

describe("a run of a flow that something else has written to", () => {
  it.live("has another byte: it is seen, and the others run", () =>
    Effect.gen(function*() {
      const { admin, url } = yield* server
      for (const n of range(Math.ceil(Chaos.cases / 4))) {
        const seed = Chaos.seed + n
        const chaos = yield* Chaos.make(seed)
        const name = uniqueName()
        yield* Effect.gen(function*() {
          const docket = yield* Docket.Docket
          const others = range(5).map(String)
          // one is due at once, the other one waits
          yield* Docket.start(Stored.Steps, { n: 1 }, { key: "victim", after: chaos.int(2) * 60_000 })
          yield* Effect.forEach(others, (key) => Docket.add(Stored.Beside, { n: 1 }, { key }))
          const runs = `docket:{${name}}:runs`
          const record = yield* Effect.promise(() => admin.hgetBuffer(runs, "victim"))
          const damaged = Buffer.from(record!)
          damaged[86 + chaos.int(record!.length - 86)] = chaos.int(256)
          // hset takes bytes as well
          yield* Effect.promise(() => admin.hset(runs, "victim", damaged as unknown as string))
          yield* drain(others)
          yield* Stored.orderly("reading", docket.get("victim"))
          yield* Stored.orderly("explaining", docket.explain("victim"))
          yield* Stored.orderly("cancelling", docket.cancel("victim"))
          yield* docket.clear
        }).pipe(
          Effect.provide(liveIn(url, name), { local: true }),
          Effect.timeout("10 seconds"),
          Effect.catchCause((cause) => Effect.die(new Error(`FUZZ_CASES=4 FUZZ_SEED=${seed}`, { cause })))
        )
      }
    }))
})

describe("a reply that no script of ours makes", () => {
  /** Bytes that begin as a record or an outcome does, with lengths that may be wrong. */
  const bytes = (chaos: Chaos.Chaos): Buffer => {
    const all = Buffer.from(range(chaos.int(300)).map(() => chaos.int(256)))
    if (all.length < 130 || chaos.int(3) === 0) return all
    all[0] = chaos.int(12)
    all[1] = chaos.pick([0, 2, 4, 8, 12, 17])
    all.writeUInt16BE(chaos.int(20), chaos.pick([34, 38]))
    all.writeUInt16BE(chaos.int(20), 84)
    // the length of a part of a flow, behind the group, and those in it
    all.writeUInt32BE(chaos.pick([0, 42, 60]), Math.min(86 + all.readUInt16BE(84), all.length - 4))
    return all
  }
  it.effect("is read as something, and nothing throws", () =>
    Effect.gen(function*() {
      for (const n of range(Chaos.cases * 10)) {
        const chaos = yield* Chaos.make(Chaos.seed + n)
        const reply = bytes(chaos)
        const read = () => {
          readRecord(reply)
          readDone(reply)
          readMember(reply)
          readTexts(reply)
          readHeld(reply)
          readMore([reply, reply])
          readRefused([reply, reply, reply])
        }
        assert.doesNotThrow(read, `FUZZ_CASES=1 FUZZ_SEED=${Chaos.seed + n}`)
      }
    }))
})
