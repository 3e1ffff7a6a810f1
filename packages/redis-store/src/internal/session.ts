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
import type * as Scope from "effect/Scope"
import { type Client, script } from "./connection.ts"
import type { Env } from "./docket.ts"
import { gatesText, groupId, keysOf, parseGroup, prefixOf, readRecord, readTexts } from "./layout.ts"
import { most as batch } from "./scripts/bounds.ts"
import { renew } from "./scripts/small.ts"
import { turn } from "./scripts/turn.ts"

const scripts = { turn: script(turn), renew: script(renew) }

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
  readonly until: number
}

/** Whether a worker serves a group. */
export const isServed = ({ lanes, tasks }: Registered, group: string): boolean => {
  const { lane, task, version } = parseGroup(group)
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

/** Arguments of a change, and the group that it leads to. */
const changeArgs = (
  { change, successor }: DocketStore.Settlement,
  group: string
): { readonly args: ReadonlyArray<string | number>; readonly to: string } => {
  switch (change._tag) {
    case "Completed":
    case "Failed": {
      if (successor === undefined) return { args: [change._tag, change.exit, "0"], to: group }
      const { lane, task } = parseGroup(group)
      const to = groupId(task, successor.version, lane)
      const due = "at" in successor.due ? `at${successor.due.at}` : `in${successor.due.after}`
      return { args: [change._tag, change.exit, "1", due, successor.payload, to, gatesText(successor.gates)], to }
    }
    case "Retry":
      return { args: [change._tag, change.after, change.exit, change.failures], to: group }
    case "Snooze":
      return { args: [change._tag, change.after], to: group }
    case "Skipped":
      return { args: ["Dropped", change.by], to: group }
    case "Cancelled":
    case "Released":
    case "Continue":
    case "HandOver":
      return { args: [change._tag], to: group }
  }
}

/** Settlements as a script takes them: plain completions, which are most, before the others. */
interface Settle {
  readonly keys: Array<string>
  readonly args: Array<string | number>
  readonly groups: Set<string>
  /** Which settlement each answer is for. */
  readonly order: Array<number>
}

const settleOf = (
  settlements: ReadonlyArray<DocketStore.Settlement>,
  groupOf: (token: string) => string
): Settle => {
  const settle: Settle = { keys: [], args: [0], groups: new Set(), order: [] }
  const others: Array<number> = []
  for (const [index, { change, key, successor, token }] of settlements.entries()) {
    if (change._tag !== "Completed" || successor !== undefined) {
      others.push(index)
      continue
    }
    settle.order.push(index)
    settle.keys.push(key)
    settle.args.push(token, change.exit)
    settle.groups.add(groupOf(token))
  }
  settle.args[0] = settle.order.length
  for (const index of others) {
    const settlement = settlements[index]!
    const group = groupOf(settlement.token)
    const { args, to } = changeArgs(settlement, group)
    settle.order.push(index)
    settle.keys.push(settlement.key)
    settle.args.push(settlement.token, ...args)
    settle.groups.add(group).add(to)
  }
  return settle
}

interface Reply {
  readonly now: number
  readonly next: number | undefined
  readonly answers: string
  readonly claims: ReadonlyArray<DocketStore.Claim>
  /** What the store itself decided on when it claimed. */
  readonly verdicts: Settle
  /** Groups of others with runs that a gate has room for again. */
  readonly elsewhere: ReadonlySet<string>
}

const readReply = (
  [now, next, answers, remarks, ...pairs]: ReadonlyArray<Buffer>,
  held: Map<string, string>
): Reply => {
  const claims: Array<DocketStore.Claim> = []
  const verdicts: Settle = { keys: [], args: [0], groups: new Set(), order: [] }
  const elsewhere = new Set<string>()
  const remarked = new Map<number, readonly [string, string]>()
  if (remarks!.length > 0) {
    const texts = readTexts(remarks!)
    for (let i = 0; i < texts.length; i += 3) {
      if (texts[i + 1] === "Elsewhere") elsewhere.add(texts[i + 2]!)
      else remarked.set(Number(texts[i]), [texts[i + 1]!, texts[i + 2]!])
    }
  }
  for (let i = 0; i < pairs.length; i += 2) {
    const { attempt, due, generation, group, lost, payload, startedAt, token: number } = readRecord(pairs[i + 1]!)
    const key = pairs[i]!.toString()
    const token = String(number)
    const remark = remarked.size === 0 ? undefined : remarked.get(i / 2 + 1)
    if (remark?.[0] === "Skipped" || remark?.[0] === "Abandoned") {
      verdicts.keys.push(key)
      verdicts.args.push(token, ...remark)
      verdicts.groups.add(group)
      continue
    }
    held.set(token, group)
    const { task, version } = parseGroup(group)
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
      trace: remark === undefined || remark[1] === "" ? undefined : JSON.parse(remark[1]) as Docket.Trace, // written by `add`
      ...remark?.[0] === "Dropped" && { droppedBy: "rateLimit", failures: undefined }
    })
  }
  return {
    now: Number(now),
    next: next!.length === 0 ? undefined : Number(next),
    answers: answers!.toString("latin1"),
    claims,
    verdicts,
    elsewhere
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
  // every group that it could serve: a worker knows its tasks, their versions and its lanes
  const served = Array.from(options.tasks).flatMap(([task, newest]) =>
    Array.from({ length: newest }, (_, index) => index + 1).flatMap((version) =>
      options.lanes.map((lane) => groupId(task, version, lane))
    )
  )
  const servedGroups = new Set(served)
  /** Groups of the claims that it holds. */
  const held = new Map<string, string>()
  let cancelled: Array<string> = []
  let nextAt: number | undefined
  let offset = 0
  let idle = false
  /** It took a token, and has not looked yet. */
  let owing = false
  /** It waits for a token: one may be on its way when it leaves. */
  let waiting = false
  let unserved: ReadonlyArray<DocketStore.Unserved> = []
  const earlier = Latch.makeUnsafe()
  const hungry = Latch.makeUnsafe()

  yield* listener.onCancel((token) => {
    if (!held.has(token)) return
    cancelled.push(token)
    options.onWake()
  })

  const beat = connection.use("attach", (client) =>
    serverTime(client).then((now) => {
      const worker: Registered = {
        tasks: Object.fromEntries(options.tasks),
        lanes: options.lanes,
        until: now + registrationMillis
      }
      return client.hset(keys.workers, options.worker, JSON.stringify(worker)).then(() =>
        client.pexpire(keys.workers, 86_400_000)
      )
    }))
  const findUnserved = Effect.fnUntraced(
    function*(): Effect.fn.Return<ReadonlyArray<DocketStore.Unserved>, DocketError.DocketError> {
      const { now, workers } = yield* registered(env)
      const counts = yield* readCounts(env, now, (group) => !workers.some((worker) => isServed(worker, group)))
      return Array.from(counts)
        .filter(([, { ready }]) => ready > 0)
        .map(([group, { ready }]) => ({ ...parseGroup(group), count: ready }))
    }
  )
  const wakes = served.map((group) => keys.group(group)[4]!)
  yield* Effect.addFinalizer(() =>
    Effect.ignore(connection.use("detach", (client) =>
      Promise.all([
        client.hdel(keys.workers, options.worker),
        // what it was woken for is for the others
        ...(owing || waiting ? wakes : []).map((wake) =>
          client.lpush(wake, "1").then(() => client.pexpire(wake, 60_000))
        )
      ])))
  )
  yield* beat
  const look = Effect.map(findUnserved(), (found) => {
    const known = new Set(unserved.map(({ lane, task, version }) => groupId(task, version, lane)))
    unserved = found
    // a turn tells of them; those that it has told of cost nothing while they wait
    if (found.some(({ lane, task, version }) => !known.has(groupId(task, version, lane)))) options.onWake()
  })
  yield* Effect.forkScoped(
    Effect.forever(Effect.andThen(Effect.sleep(heartbeat), Effect.ignore(Effect.andThen(beat, look))))
  )

  const servedKeys = keysOf(keys, served)
  const doneAt = keys.done("").length + 1
  const groupArgs = (groups: ReadonlyArray<string>, request: Pick<DocketStore.TurnRequest, "lanes" | "except">) =>
    groups.flatMap((group): ReadonlyArray<string | number> => {
      const { lane, task } = parseGroup(group)
      const isOpen = servedGroups.has(group) && request.except?.has(task) !== true
      const room = request.lanes === undefined ? -1 : Math.max(0, request.lanes.get(lane) ?? 0)
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

  const call = (
    settle: Settle,
    capacity: number,
    request: Pick<DocketStore.TurnRequest, "lanes" | "except">
  ) => {
    const further = Array.from(settle.groups).filter((group) => !servedGroups.has(group))
    const groups = further.length === 0 ? served : [...served, ...further]
    const isUnlimited = further.length === 0 && request.lanes === undefined && request.except === undefined
    return Effect.map(
      connection.call(
        "turn",
        scripts.turn,
        [...further.length === 0 ? servedKeys : keysOf(keys, groups), ...settle.keys.map(keys.done)],
        [
          ...prefixOf(keys, groups),
          options.worker,
          options.lease,
          capacity,
          doneAt,
          ...isUnlimited ? unlimited : groupArgs(groups, request),
          ...gateArgs,
          ...settle.args
        ]
      ),
      (reply) => readReply(reply as ReadonlyArray<Buffer>, held) // what the script replies
    )
  }

  const turn = Effect.fnUntraced(
    function*(request: DocketStore.TurnRequest): Effect.fn.Return<DocketStore.TurnReply, DocketError.DocketError> {
      idle = false
      owing = false
      const settle = settleOf(request.settle, (token) => held.get(token) ?? served[0]!)
      let reply = yield* call(settle, request.capacity, request)
      const settled: Array<DocketStore.Settled> = []
      for (let i = 0; i < settle.order.length; i++) settled[settle.order[i]!] = answerOf[reply.answers[i]!]!
      const claims = Array.from(reply.claims)
      const elsewhere = new Set(reply.elsewhere)
      // those are to be settled at once, and make room for others
      while (reply.verdicts.keys.length > 0) {
        reply = yield* call(reply.verdicts, Math.max(0, request.capacity - claims.length), request)
        claims.push(...reply.claims)
        for (const group of reply.elsewhere) elsewhere.add(group)
      }
      if (elsewhere.size > 0) {
        // what others hold behind the same gates, the script could not touch
        const { next } = yield* call({ keys: [], args: [0], groups: elsewhere, order: [] }, 0, request)
        if (next !== undefined) reply = { ...reply, next: Math.min(next, reply.next ?? Infinity) }
      }
      for (const { token } of request.settle) held.delete(token)
      offset = reply.now - clock.currentTimeMillisUnsafe()
      nextAt = reply.next
      idle = claims.length < Math.min(request.capacity, batch)
      if (idle) hungry.openUnsafe()
      else if (claims.length < request.capacity) options.onWake()
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
    const wait = nextAt - offset - clock.currentTimeMillisUnsafe()
    if (wait > 0) return Effect.raceFirst(Effect.sleep(Duration.millis(wait)), earlier.await)
    nextAt = undefined
    options.onWake()
    return earlier.await
  })))

  // waits for a token while there are free slots
  const blocking = yield* connection.another("wake", (blockSeconds + 5) * 1000)
  yield* Effect.forkScoped(Effect.forever(Effect.suspend(() => {
    if (!idle) return Effect.andThen(Effect.sync(() => hungry.closeUnsafe()), hungry.await)
    waiting = true
    return Effect.tryPromise(() => blocking.blpop(...wakes as [string, ...Array<string>], blockSeconds)).pipe(
      Effect.onExit((exit) =>
        Effect.sync(() => {
          waiting = Exit.hasInterrupts(exit)
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
            idle = false
            owing = true
            options.onWake()
          }),
        // the connection comes back by itself, and the next turn says what is wrong; a token may be lost with it
        onFailure: () => Effect.andThen(Effect.sleep(Duration.seconds(1)), Effect.sync(options.onWake))
      })
    )
  })))

  return {
    turn,
    renew: (fences) => {
      const groups = Array.from(new Set(fences.map(({ token }) => held.get(token) ?? served[0]!)))
      return Effect.map(
        connection.call(
          "renew",
          scripts.renew,
          [...keysOf(keys, groups), ...fences.map(({ key }) => keys.done(key))],
          [
            ...prefixOf(keys, groups),
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
