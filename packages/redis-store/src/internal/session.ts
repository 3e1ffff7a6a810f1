/**
 * A worker at a docket in Redis: turns, renewals, and what wakes it.
 *
 * It is woken by a token that a script pushes for its groups (one new run wakes one idle worker), by the time that the last
 * turn named as the next one with something to do, and by cancels. Timers are its own: a blocking command that runs out may
 * be a tenth of a second late.
 */
import type { Docket, DocketError } from "@effect-docket/dsl"
import type { DocketStore } from "@effect-docket/runtime"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import { type Client, script, unreadable } from "./connection.ts"
import type { Env } from "./docket.ts"
import { groupId, keysOf, nameMore, parseGroup, prefixOf, readMore } from "./layout.ts"
import { betweenOf, type Part } from "./parts.ts"
import { readRecord } from "./records.ts"
import { most as batch } from "./scripts/bounds.ts"
import { limit } from "./scripts/gates.ts"
import { renew } from "./scripts/small.ts"
import { turn } from "./scripts/turn.ts"
import { concern, heldOf, Holding, nothingToSettle, type Settle, settleOf } from "./settlements.ts"
import { readTexts } from "./texts.ts"

const scripts = { turn: script(turn), renew: script(renew), limit: script(limit) }

// How long a worker is known after it was last heard, and how often it says something.
const registrationMillis = 30_000
const heartbeat = Duration.seconds(3)

// How long one blocking command waits, and how soon the outlook of others is looked at again.
const blockSeconds = 10
const lookAgain = Duration.millis(100)

/** An attached worker, as others see it. */
export interface Registered {
  readonly tasks: Readonly<Record<string, number>>
  readonly lanes: ReadonlyArray<string>
  /** Versions of flows that it can interpret. */
  readonly flows?: Readonly<Record<string, ReadonlyArray<number>>> | undefined
  readonly until: number
}

/** Whether a worker serves a group. */
export const isServed = ({ flows = {}, lanes, tasks }: Registered, group: string): boolean => {
  const { lane, task, version } = parseGroup(group)
  if (lane === "") return Object.hasOwn(flows, task) && flows[task]!.includes(version)
  return Object.hasOwn(tasks, task) && tasks[task]! >= version && lanes.includes(lane)
}

/** The time of the server, and the workers that were heard lately. */
export const registered = ({ connection, keys }: Pick<Env, "connection" | "keys">) =>
  Effect.map(
    connection.use("workers", (client) => Promise.all([client.hvals(keys.workers), serverTime(client)])),
    ([texts, now]) => ({
      now,
      workers: texts.map((text) => JSON.parse(text) as Registered).filter(({ until }) => until > now) // written by `beat`
    })
  )

/** The groups that there have been, of the fields of `counts`. */
export const groupsIn = (fields: Readonly<Record<string, string>>): ReadonlyArray<string> =>
  Array.from(new Set(Object.keys(fields).map((field) => field.slice(0, -2))))

/** How many runs a group has. */
export interface Count {
  readonly scheduled: number
  readonly ready: number
  readonly held: number
  readonly running: number
}

/**
 * How many runs there are, per group. What is due is ready, though nothing happens in the server until a worker of the group
 * takes a turn.
 */
export const readCounts = Effect.fnUntraced(function*(
  { connection, keys }: Pick<Env, "connection" | "keys">,
  now: number,
  which: (group: string) => boolean
): Effect.fn.Return<ReadonlyMap<string, Count>, DocketError.DocketError> {
  const fields = yield* connection.use("counts", (client) => client.hgetall(keys.counts))
  const groups = groupsIn(fields).filter(which)
  const count = (group: string, what: string) => Number(fields[`${group}:${what}`] ?? 0)
  const due = yield* connection.use("counts", (client) =>
    Promise.all(
      groups.map((group) => count(group, "s") === 0 ? 0 : client.zcount(keys.group(group)[2]!, "-inf", now))
    ))
  return new Map(groups.map((group, index) => [group, {
    scheduled: count(group, "s") - due[index]!,
    ready: count(group, "r") + due[index]!,
    held: count(group, "h"),
    running: count(group, "x")
  }]))
})

const serverTime = (client: Client): Promise<number> =>
  (client as { time(): Promise<ReadonlyArray<string | number>> }).time().then(([seconds, micros]) =>
    // both kinds of client have it
    Number(seconds) * 1000 + Math.floor(Number(micros) / 1000)
  )

/** A wait for tokens: for runs, or for flows that are between two steps. A worker may have room for one and not the other. */
class Waiter {
  /** Lists of tokens. */
  readonly wakes: ReadonlyArray<string>
  /** It has room for more than its last turn found. */
  idle = false
  /** It waits: a token may be on its way when it leaves. */
  waiting = false
  readonly hungry = Latch.makeUnsafe()

  constructor(wakes: ReadonlyArray<string>) {
    this.wakes = wakes
  }

  set room(idle: boolean) {
    this.idle = idle
    if (idle) this.hungry.openUnsafe()
  }
}

interface Reply {
  readonly now: number
  readonly next: number | undefined
  readonly answers: string
  readonly claims: ReadonlyArray<DocketStore.Claim>
  /** What the store itself decided on when it claimed. */
  readonly verdicts: Settle
  /** Groups of others with runs that a gate has room for again, or whose patience has ended. */
  readonly elsewhere: ReadonlySet<string>
  /** Nothing was claimed, since runs whose patience has ended could not be moved. */
  readonly late: boolean
  /** What is left of gathers that were forgotten: flow, gather, places. */
  readonly garbage: ReadonlyArray<readonly [flow: string, gather: string, places: number]>
}

const claimedThread = (
  { exit, gathered, parent, stopped, thread }: Part,
  between: boolean
): DocketStore.ClaimedThread => ({ ...thread, parent, between, gathered, exit, stopped })

/** The span that a note names. What is none links to nothing. */
const readTrace = (text: string): Docket.Trace | undefined =>
  Result.getOrUndefined(Result.try(() => JSON.parse(text) as Docket.Trace)) // written by `add`

const readReply = (
  [now, next, answers, remarks, ...pairs]: ReadonlyArray<Buffer>,
  holding: Holding
): Reply => {
  const claims: Array<DocketStore.Claim> = []
  const verdicts = nothingToSettle()
  const elsewhere = new Set<string>()
  const garbage: Array<readonly [string, string, number]> = []
  let late = false
  const remarked = new Map<number, readonly [string, string]>()
  if (remarks!.length > 0) {
    const texts = readTexts(remarks!)
    for (let i = 0; i < texts.length; i += 3) {
      const [number, what, about] = [texts[i]!, texts[i + 1]!, texts[i + 2]!]
      if (number === "0") {
        if (what === "Garbage") {
          const [flow = "", gather = "", places] = readTexts(Buffer.from(about))
          garbage.push([flow, gather, Number(places)])
          continue
        }
        elsewhere.add(about)
        late ||= what === "Late"
      } else remarked.set(Number(number), [what, about])
    }
  }
  for (let i = 0; i < pairs.length; i += 2) {
    const { attempt, due, generation, group, lost, part, payload, startedAt, token: number } = readRecord(pairs[i + 1]!)
    const key = pairs[i]!.toString()
    const token = String(number)
    const remark = remarked.size === 0 ? undefined : remarked.get(i / 2 + 1)
    if (remark?.[0] === "Skipped" || remark?.[0] === "Abandoned") {
      verdicts.keys.push(key)
      verdicts.args.push(token, ...remark)
      verdicts.groups.add(group)
      if (part !== undefined) concern(verdicts, key, heldOf(part))
      continue
    }
    holding.add(token, group, part && heldOf(part))
    const { lane, task, version } = parseGroup(group)
    claims.push({
      key,
      generation,
      token,
      task,
      version,
      payload,
      attempt,
      lost,
      due,
      startedAt,
      failures: remark === undefined || remark[0] === "" ? undefined : remark[0],
      trace: remark === undefined || remark[1] === "" ? undefined : readTrace(remark[1]),
      ...remark?.[0] === "Dropped" && { droppedBy: "rateLimit", failures: undefined },
      ...part && { thread: claimedThread(part, lane === "") }
    })
  }
  return {
    now: Number(now),
    next: next!.length === 0 ? undefined : Number(next),
    answers: answers!.toString("latin1"),
    claims,
    verdicts,
    elsewhere,
    late,
    garbage
  }
}

const answerOf: Readonly<Record<string, DocketStore.Settled>> = { A: "Applied", D: "Duplicate", L: "Lost" }
const renewedOf: Readonly<Record<string, DocketStore.Renewed>> = {
  E: "Renewed",
  C: "Cancelled",
  L: "Lost",
  R: "Replaced"
}

/** Attaches a worker. */
export const attach = Effect.fnUntraced(function*(
  env: Env,
  options: DocketStore.WorkerOptions
): Effect.fn.Return<DocketStore.WorkerSession, DocketError.DocketError, Scope.Scope> {
  const { connection, keys, listener } = env
  const clock = yield* Clock.Clock
  const scope = yield* Effect.scope
  // every group that it could serve: a worker knows its tasks, their versions and its lanes, and its flows
  const steps = Array.from(options.tasks).flatMap(([task, newest]) =>
    Array.from({ length: newest }, (_, index) => index + 1).flatMap((version) =>
      options.lanes.map((lane) => groupId(task, version, lane))
    )
  )
  const betweens = Array.from(options.flows ?? []).flatMap(([flow, versions]) =>
    Array.from(versions, (version) => betweenOf({ flow, version }))
  )
  const served = [...steps, ...betweens]
  const servedGroups = new Set(served)
  const holding = new Holding()
  let cancelled: Array<string> = []
  // not that of the day: a machine's clock may be set while a worker waits
  const millis = () => Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n)
  let nextAt: number | undefined
  let offset = 0
  /** It took a token, and has not looked yet. */
  let owing = false
  let unserved: ReadonlyArray<DocketStore.Unserved> = []
  const earlier = Latch.makeUnsafe()
  const wakesOf = (groups: ReadonlyArray<string>) => groups.map((group) => keys.group(group)[4]!)
  const forRuns = new Waiter(wakesOf(steps))
  const forFlows = new Waiter(wakesOf(betweens))
  const waiters = [forRuns, forFlows].filter(({ wakes }) => wakes.length > 0)

  yield* listener.onCancel((token) => {
    if (!holding.groups.has(token)) return
    cancelled.push(token)
    options.onWake()
  })

  const beat = connection.use("attach", (client) =>
    serverTime(client).then((now) => {
      const worker: Registered = {
        tasks: Object.fromEntries(options.tasks),
        lanes: options.lanes,
        flows: Object.fromEntries(Array.from(options.flows ?? [], ([flow, versions]) => [flow, Array.from(versions)])),
        until: now + registrationMillis
      }
      return client.hset(keys.workers, options.worker, JSON.stringify(worker)).then(() =>
        client.pexpire(keys.workers, 86_400_000)
      )
    }))
  const countUnserved = Effect.fnUntraced(
    function*(): Effect.fn.Return<ReadonlyMap<string, Count>, DocketError.DocketError> {
      const { now, workers } = yield* registered(env)
      return yield* readCounts(env, now, (group) => !workers.some((worker) => isServed(worker, group)))
    }
  )
  yield* Effect.addFinalizer(() =>
    Effect.ignore(connection.use("detach", (client) =>
      Promise.all([
        client.hdel(keys.workers, options.worker),
        // what it was woken for is for the others
        ...waiters.flatMap(({ waiting, wakes }) => owing || waiting ? wakes : []).map((wake) =>
          client.lpush(wake, "1").then(() => client.pexpire(wake, 60_000))
        )
      ])))
  )
  yield* beat
  const look = Effect.flatMap(countUnserved(), (counts) => {
    const known = new Set(unserved.map(({ lane, task, version }) => groupId(task, version, lane)))
    const found = Array.from(counts).filter(([, { ready }]) => ready > 0)
    unserved = found.map(([group, { ready }]) => ({ ...parseGroup(group), count: ready }))
    // a turn tells of them; those that it has told of cost nothing while they wait
    if (found.some(([group]) => !known.has(group))) options.onWake()
    // slots of a scope that are held by the dead, whom nobody else takes over
    const left = Array.from(counts).filter(([, { running }]) => running > 0).map(([group]) => group)
    return limits.length === 0 || left.length === 0
      ? Effect.void
      : call(nothingToSettle(new Set(left)), 0, 0, { lanes: undefined, except: undefined })
  })
  yield* Effect.forkScoped(
    Effect.forever(Effect.andThen(Effect.sleep(heartbeat), Effect.ignore(Effect.andThen(beat, look))))
  )

  const servedKeys = keysOf(keys, { groups: served })
  const doneAt = keys.done("").length + 1
  const groupArgs = (groups: ReadonlyArray<string>, request: Pick<DocketStore.TurnRequest, "lanes" | "except">) =>
    groups.flatMap((group): ReadonlyArray<string | number> => {
      const { lane, task } = parseGroup(group)
      // neither concerns flows that are between two steps
      const isOpen = servedGroups.has(group) && (lane === "" || request.except?.has(task) !== true)
      const room = request.lanes === undefined || lane === "" ? -1 : Math.max(0, request.lanes.get(lane) ?? 0)
      return [room, lane, task, isOpen ? "1" : "0"]
    })
  const unlimited = groupArgs(served, { lanes: undefined, except: undefined })

  const limits = served.flatMap((group, index): ReadonlyArray<string | number> => {
    const declared = options.gates?.get(parseGroup(group).task)
    if (declared === undefined) return []
    const { concurrency = "", cooldown = "", rateLimit: rate } = declared
    return [index + 1, concurrency, rate?.limit ?? "", rate?.window ?? "", rate?.drops === true ? "1" : "0", cooldown]
  })
  const gateArgs = [served.length, limits.length / 6, ...limits]
  const declared = served.flatMap((group) => {
    const all = options.gates?.get(parseGroup(group).task)
    return [group, all === undefined ? "" : JSON.stringify([all.concurrency, all.rateLimit, all.cooldown])]
  })
  const [meta] = keys.base
  let after = ""
  do {
    after = String(
      yield* connection.call("attach", scripts.limit, [meta!, keys.held, keys.looks], [after, ...declared])
    )
  } while (after !== "")

  const call = Effect.fnUntraced(function*(
    settle: Settle,
    capacity: number,
    between: number,
    request: Pick<DocketStore.TurnRequest, "lanes" | "except">
  ): Effect.fn.Return<Reply, DocketError.DocketError> {
    while (true) {
      const further = Array.from(settle.groups).filter((group) => !servedGroups.has(group))
      const isPlain = further.length === 0 && settle.flows.size === 0
      const named = { groups: [...served, ...further], flows: Array.from(settle.flows) }
      const isUnlimited = further.length === 0 && request.lanes === undefined && request.except === undefined
      const reply = yield* connection.call(
        "turn",
        scripts.turn,
        [...isPlain ? servedKeys : keysOf(keys, named), ...settle.keys.map(keys.done)],
        [
          ...prefixOf(keys, named),
          options.worker,
          options.lease,
          capacity,
          between,
          doneAt,
          ...isUnlimited ? unlimited : groupArgs(named.groups, request),
          ...gateArgs,
          settle.wary ? "1" : "0",
          ...settle.args
        ]
      )
      const more = settle.wary ? readMore(reply) : undefined
      if (more === undefined) return readReply(reply as ReadonlyArray<Buffer>, holding) // what the script replies
      if (!nameMore(settle, more)) return yield* unreadable("turn")
    }
  })

  // a script removes a bounded number of what it forgets; nothing looks at the rest any more
  const sweep = (garbage: Reply["garbage"]) =>
    Effect.forEach(
      garbage,
      ([flow, gather, places]) =>
        connection.use("sweep", (client) =>
          Promise.all(Array.from({ length: Math.ceil(places / batch) }, (_, page) =>
            client.hdel(
              keys.flow(flow),
              ...Array.from({ length: Math.min(batch, places - page * batch) }, (_, n) =>
                `${gather}/${page * batch + n}`)
            )))),
      { discard: true }
    )

  const turn = Effect.fnUntraced(
    function*(request: DocketStore.TurnRequest): Effect.fn.Return<DocketStore.TurnReply, DocketError.DocketError> {
      forRuns.idle = false
      forFlows.idle = false
      owing = false
      const { between = 0, capacity } = request
      const settle = settleOf(keys, request.settle, holding, served[0]!)
      const claims: Array<DocketStore.Claim> = []
      let ofFlows = 0
      const elsewhere = new Set<string>()
      const ask = Effect.fnUntraced(function*(settle: Settle, claimsToo: boolean) {
        const [runs, flows] = claimsToo ? [capacity - claims.length + ofFlows, between - ofFlows] : [0, 0]
        const reply = yield* call(settle, Math.max(0, runs), Math.max(0, flows), request)
        for (const claim of reply.claims) {
          claims.push(claim)
          if (claim.thread?.between === true) ofFlows++
        }
        for (const group of reply.elsewhere) elsewhere.add(group)
        if (reply.garbage.length > 0) yield* sweep(reply.garbage)
        return reply
      })
      let reply = yield* ask(settle, true)
      const settled: Array<DocketStore.Settled> = []
      for (let i = 0; i < settle.order.length; i++) settled[settle.order[i]!] = answerOf[reply.answers[i]!]!
      // those are to be settled at once, and make room for others
      while (reply.verdicts.keys.length > 0) reply = yield* ask(reply.verdicts, true)
      // what others hold behind the same gates, or is to leave them, the script could not touch
      for (let known = 0; elsewhere.size > known;) {
        known = elsewhere.size
        const { next, verdicts } = yield* ask(nothingToSettle(elsewhere), reply.late)
        reply = {
          ...reply,
          verdicts,
          late: false,
          next: next === undefined ? reply.next : Math.min(next, reply.next ?? Infinity)
        }
      }
      while (reply.verdicts.keys.length > 0) reply = yield* ask(reply.verdicts, false)
      for (const { token } of request.settle) holding.delete(token)
      offset = reply.now - millis()
      nextAt = reply.next
      const runs = claims.length - ofFlows
      forRuns.room = runs < Math.min(capacity, batch)
      forFlows.room = ofFlows < Math.min(between, batch)
      if (!forRuns.idle && runs < capacity) options.onWake()
      earlier.openUnsafe()
      const tokens = cancelled
      cancelled = []
      return { now: reply.now, settled, claimed: claims, cancelled: tokens, unserved }
    }
  )

  // wakes at the time that the last turn named
  yield* Effect.forkScoped(Effect.forever(Effect.suspend(() => {
    earlier.closeUnsafe()
    if (nextAt === undefined) return earlier.await
    const wait = nextAt - offset - millis()
    if (wait > 0) return Effect.raceFirst(Effect.sleep(Duration.millis(wait)), earlier.await)
    nextAt = undefined
    options.onWake()
    return earlier.await
  })))

  // waits for a token while there are free slots
  const wait = Effect.fnUntraced(function*(waiter: Waiter): Effect.fn.Return<void, never, Scope.Scope> {
    const { hungry, wakes } = waiter
    const blocking = yield* connection.another("wake", (blockSeconds + 5) * 1000)
    yield* Effect.forkScoped(Effect.forever(Effect.suspend(() => {
      if (!waiter.idle) return Effect.andThen(Effect.sync(() => hungry.closeUnsafe()), hungry.await)
      waiter.waiting = true
      return Effect.tryPromise(() => blocking.blpop(...wakes as [string, ...Array<string>], blockSeconds)).pipe( // there is one
        Effect.onExit((exit) =>
          Effect.sync(() => {
            waiter.waiting = Exit.hasInterrupts(exit)
          })
        ),
        Effect.matchEffect({
          onSuccess: (token) =>
            Effect.sync(() => {
              // a token can be lost with the server or the worker that took it: whoever waited long looks for himself
              if (token === null) return options.onWake()
              const at = Number(token[1])
              if (at > 1) {
                nextAt = Math.min(at, nextAt ?? Infinity)
                earlier.openUnsafe()
                return
              }
              waiter.idle = false
              owing = true
              options.onWake()
            }),
          // the connection comes back by itself, and the next turn says what is wrong; a token may be lost with it
          onFailure: () => Effect.andThen(Effect.sleep(Duration.seconds(1)), Effect.sync(options.onWake))
        })
      )
    })))
  })
  yield* Effect.forEach(waiters, wait, { discard: true })

  return {
    turn,
    renew: (fences) => {
      const named = { groups: Array.from(new Set(fences.map(({ token }) => holding.groups.get(token) ?? served[0]!))) }
      return Effect.map(
        connection.call(
          "renew",
          scripts.renew,
          [...keysOf(keys, named), ...fences.map(({ key }) => keys.done(key))],
          [
            ...prefixOf(keys, named),
            options.lease,
            fences.length,
            ...fences.flatMap(({ generation, key, token }) => [key, generation, token])
          ]
        ),
        (answers) => Array.from(String(answers), (letter) => renewedOf[letter]!)
      )
    },
    outlook: (except) =>
      Effect.gen(function*() {
        const counts = yield* connection.use("outlook", (client) => client.hgetall(keys.counts))
        let pending = 0
        let running = 0
        for (const group of served) {
          const count = (what: string) => Number(counts[`${group}:${what}`] ?? 0)
          running += count("x")
          if (except?.has(parseGroup(group).task) !== true) pending += count("s") + count("r") + count("h")
        }
        // what other workers do wakes nobody: whoever waits for the end of it looks again
        if (pending + running > 0) {
          yield* Effect.forkIn(Effect.andThen(Effect.sleep(lookAgain), Effect.sync(options.onWake)), scope)
        }
        return { pending, running, nextDue: nextAt }
      })
  }
})
