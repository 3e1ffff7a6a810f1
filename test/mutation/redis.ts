/**
 * Mutations of the store on Redis: its scripts and its keys.
 */
import { integration, type Mutation, onCluster, onRedis } from "./mutation.ts"

const scripts = "packages/redis-store/src/internal/scripts"
const turn = `${scripts}/turn.ts`
const prelude = `${scripts}/prelude.ts`
const add = `${scripts}/add.ts`
const adding = `${scripts}/adding.ts`
const small = `${scripts}/small.ts`
const gates = `${scripts}/gates.ts`
const flows = `${scripts}/flows.ts`
const gathers = `${scripts}/gathers.ts`

const indexes = "packages/redis-store/test/indexes.test.ts"

/** Mutations of the store on Redis. */
export const redis: ReadonlyArray<Mutation> = [
  {
    id: "redis/fence-of-completions",
    file: turn,
    find: "if state ~= RUNNING or current ~= held then",
    replace: "if state ~= RUNNING then",
    breaks: "a worker whose lease is over completes the run of another one",
    noticedBy: onRedis("worker stops without a word")
  },
  {
    id: "redis/fence-of-changes",
    file: turn,
    find: "if not r or r.state ~= RUNNING or r.token ~= held then\n    answers[i] = refusal(v, done, held)",
    replace: "if not r or r.state ~= RUNNING then\n    answers[i] = refusal(v, done, held)",
    breaks: "a worker whose lease is over fails the run of another one",
    noticedBy: onRedis("worker stops without a word", "the model")
  },
  {
    id: "redis/fence-of-renewals",
    file: small,
    find: "elseif r.generation ~= generation or r.state ~= RUNNING or r.token ~= held then",
    replace: "elseif r.generation ~= generation or r.state ~= RUNNING then",
    breaks: "a worker renews the lease of another one, and never hears that it has lost its claim",
    noticedBy: onRedis("worker stops without a word", "the model")
  },
  {
    id: "redis/duplicate-unknown",
    file: turn,
    find: "return settled == held and 'D' or 'L'",
    replace: "return 'L'",
    breaks: "a worker warns of a lost claim although its settlement counts",
    noticedBy: onRedis("the reply to a settlement is lost after it was applied")
  },
  {
    id: "redis/no-successor-after-failure",
    file: turn,
    find: "if not successor or cancelling(r) then return settle",
    replace: "if not successor or state == FAILED or cancelling(r) then return settle",
    breaks: "a perpetual task ends for ever with its first failure",
    noticedBy: onRedis("body fails, exhausts its retries")
  },
  {
    id: "redis/release-counts",
    file: turn,
    find: "    r.attempt = r.attempt - 1\n  end\n  -- the patience",
    replace: "  end\n  -- the patience",
    breaks: "each deploy takes an attempt from the runs that it interrupts",
    noticedBy: onRedis("a worker stops with bodies running")
  },
  {
    id: "redis/failures-forgotten",
    file: turn,
    find: "setNote(r, key, failures, '', note(key)[3])",
    replace: "setNote(r, key, '', '', note(key)[3])",
    breaks: "a schedule begins anew with each retry, and never ends",
    noticedBy: onRedis("retry by a schedule with 3 recurrences")
  },
  {
    id: "redis/promotion-unbounded",
    file: turn,
    find: "redis.call('ZRANGEBYSCORE', g.due, '-inf', now, 'LIMIT', 0",
    replace: "redis.call('ZRANGEBYSCORE', g.due, '-inf', '+inf', 'LIMIT', 0",
    breaks: "whatever is scheduled runs now",
    noticedBy: onRedis("due in 100 ms → drain")
  },
  {
    id: "redis/loss-not-counted",
    file: turn,
    find: "r.lost, r.token, r.worker = r.lost + 1, 0, ''",
    replace: "r.lost, r.token, r.worker = r.lost, 0, ''",
    breaks: "a body that kills its process kills all of them, for ever",
    noticedBy: onRedis("a body that kills its process")
  },
  {
    id: "redis/lease-not-indexed",
    file: turn,
    find: "push(g, 'leases', leaseEnd)\n  push(g, 'leases', key)",
    replace: "",
    breaks: "a run whose worker died is never taken over",
    noticedBy: onRedis("worker stops without a word")
  },
  {
    id: "redis/strike-not-asked",
    file: turn,
    find: "struck and not isBetween and struck(g.task, decode(v).payload)",
    replace: "false",
    breaks: "runs that were ready when their task was struck start all the same",
    noticedBy: onRedis("task struck → ready runs do not start")
  },
  {
    id: "redis/pause-not-asked",
    file: turn,
    find: "if g.open and not paused[g.id] and",
    replace: "if g.open and",
    breaks: "a paused task runs",
    noticedBy: onRedis("paused task → runs wait")
  },
  {
    id: "redis/priority-turned",
    file: turn,
    find: "s.priority > best.priority",
    replace: "s.priority < best.priority",
    breaks: "what is urgent waits for what is not",
    noticedBy: onRedis("the model", "priorit")
  },
  {
    id: "redis/ready-cut-too-far",
    file: turn,
    find: "redis.call('LTRIM', s.g.ready, s.passed, -1)",
    replace: "redis.call('LTRIM', s.g.ready, s.passed + 1, -1)",
    breaks: "a ready run is lost with each turn",
    noticedBy: onRedis("50 runs, two workers")
  },
  {
    id: "redis/ready-never-cut",
    file: turn,
    find: "redis.call('LTRIM', s.g.ready, s.passed, -1)",
    replace: "redis.call('EXISTS', s.g.ready)",
    breaks: "each claim reads everything that was claimed before it",
    noticedBy: integration(indexes)
  },
  {
    id: "redis/outcome-for-ever",
    file: turn,
    find: ".. gid .. exit, 'PX', keepS)",
    replace: ".. gid .. exit)",
    breaks: "outcomes stay until the memory is full",
    noticedBy: onRedis("added without a time")
  },
  {
    id: "redis/outcome-of-failures-for-ever",
    file: prelude,
    find: "or author or ''), 'PX', keep)",
    replace: "or author or ''))",
    breaks: "dead letters stay until the memory is full",
    noticedBy: onRedis("failing body → state failed")
  },
  {
    id: "redis/nobody-woken",
    file: prelude,
    find: "redis.call('LPUSH', g.wake, g.awake and '1' or str(g.sooner))\n    redis.call('PEXPIRE', g.wake, 60000)",
    replace: "",
    breaks: "what a worker leaves is found by nobody until something else happens",
    noticedBy: integration(indexes)
  },
  {
    id: "redis/nobody-woken-for-one",
    file: add,
    find: "redis.call('LPUSH', KEYS[10], token)\n",
    replace: "",
    breaks: "a new run waits until something else happens",
    noticedBy: integration(indexes)
  },
  {
    id: "redis/lease-entry-stays",
    file: prelude,
    find: "if g.unleases then many('ZREM', g.lease, g.unleases); g.unleases = nil end",
    replace: "g.unleases = nil",
    breaks: "a worker wakes at the end of leases that are long over",
    noticedBy: integration(indexes)
  },
  {
    id: "redis/counts-off",
    file: prelude,
    find: "elseif r.state == GATHERING then\n    g.w = g.w - 1",
    replace: "elseif r.state == GATHERING then\n    g.w = g.w",
    breaks: "what gathers is counted for ever, and a worker that drains never ends",
    noticedBy: onRedis("cancel a flow that gathers")
  },
  {
    id: "redis/replace-keeps",
    file: add,
    find: "if onExisting == 'replace' then return { 'special' } end\n",
    replace: "",
    breaks: "a replacement of a pending run is ignored",
    noticedBy: onRedis("five quick replaces")
  },
  {
    id: "redis/redrive-generation",
    file: adding,
    find: "taken = latest ~= tonumber(row.redrive)",
    replace: "taken = false",
    breaks: "a redrive repeats a run that was added again meanwhile",
    noticedBy: onRedis("redrive without a repair keeps the stored payload")
  },
  {
    id: "redis/cancel-not-noted",
    file: small,
    find: "r.flags = r.flags + 1\n    put(key, r)",
    replace: "put(key, r)",
    breaks: "a cancel that is published while its worker is away is forgotten",
    noticedBy: onRedis("K's worker died → cancel")
  },
  {
    id: "redis/cancel-not-published",
    file: small,
    find: "redis.call('PUBLISH', CANCELS, str(r.token))\n",
    replace: "",
    breaks: "a running body hears of its cancel when its lease is renewed, and not before",
    noticedBy: onRedis("running K → cancel → its worker is woken and told")
  },
  {
    id: "redis/renewal-does-not-extend",
    file: small,
    find: "push(g, 'leases', now + lease)\n    push(g, 'leases', key)\n",
    replace: "",
    breaks: "a body that is longer than its lease runs twice",
    noticedBy: onRedis("a renewed lease counts from its renewal")
  },
  {
    id: "redis/slot-not-freed",
    file: gates,
    find: "if ids.c then add(ids.c, -1); touch(ids.c, 1) end",
    replace: "if ids.c then touch(ids.c, 1) end",
    breaks: "after a run, its value is blocked for ever",
    noticedBy: onRedis("every way out of running frees the slot")
  },
  {
    id: "redis/limit-one-too-many",
    file: gates,
    find: "count(c) >= limits.c or",
    replace: "count(c) > limits.c or",
    breaks: "one run more than the limit",
    noticedBy: onRedis("a changed limit applies to what waits", "whatever happens, in any order")
  },
  {
    id: "redis/starts-not-counted",
    file: gates,
    find: "n = redis.call('ZLEXCOUNT', STARTS, from, to)",
    replace: "n = 0",
    breaks: "each turn of a worker has a window of its own",
    noticedBy: onRedis("what comes while a window is full")
  },
  {
    id: "redis/member-runs-twice",
    file: gathers,
    find: "if not known or not again or sub(known, 1, 1) == 'D' then return not known end",
    replace: "if not known or not again or sub(known, 1, 1) == 'D' then return true end",
    breaks: "a member whose addition was repeated runs again, although it has ended",
    noticedBy: onRedis("a member that has ended is added again")
  },
  {
    id: "redis/member-of-earlier-flow",
    file: gathers,
    find: "return p and p.r.generation == generation and p",
    replace: "return p",
    breaks: "a member of a replaced flow counts for the one after it",
    noticedBy: onRedis("a flow is replaced")
  },
  {
    id: "redis/member-reports-twice",
    file: gathers,
    find: "elseif g.told[place] or redis.call('HEXISTS', named[key], place) == 1 then",
    replace: "elseif false then",
    breaks: "two runs that report to one place count twice",
    noticedBy: onRedis("two runs report to one place")
  },
  {
    id: "redis/known-members-are-added",
    file: flows,
    find: "return t.key == '' or p and (not g or t.index >= g.places)",
    replace: "return t.key == '' or p",
    breaks: "members that have ended are added again with the others of their row",
    noticedBy: onRedis("a member that has ended is added again")
  },
  {
    id: "redis/members-have-one-place",
    file: adding,
    find: "partLike(part.index + n - 1)",
    replace: "partLike(part.index)",
    breaks: "all members of a row report to the place of the first",
    noticedBy: onRedis("all settled")
  },
  {
    id: "redis/leaf-with-members",
    file: turn,
    find: "part.key ~= '' and not part.owns and part.deadline == math.huge",
    replace: "part.key ~= '' and part.deadline == math.huge",
    breaks: "a branch with gathers of its own leaves their hash behind",
    noticedBy: onRedis("members may be flows")
  },
  {
    id: "redis/deadline-stays",
    file: flows,
    find: "if #dels > 0 then many('ZREM', DEADLINES, dels) end",
    replace: "",
    breaks: "each turn looks at the limits of flows that have ended",
    noticedBy: onRedis("all settled → the join runs", "quorum → released")
  },
  {
    id: "redis/gather-kept-for-ever",
    file: flows,
    find: "redis.call('PEXPIRE', named[key], keep)",
    replace: "",
    breaks: "what the members of flows said stays until the memory is full",
    noticedBy: onRedis("fan-out of")
  },
  {
    id: "redis/members-of-another-generation-are-waited-for",
    file: small,
    find: "r.part.key == parent and r.part.generation == generation",
    replace: "r.part.key == parent",
    breaks: "a flow that was redriven waits for ever for members of the generation before",
    noticedBy: onRedis("a flow is redriven and cancelled at once")
  },
  {
    id: "redis/late-members-forgotten",
    file: gathers,
    find: "if g then hear(g, t.key, index, letter, text) end",
    replace: "",
    breaks: "what succeeded after its flow had failed runs again when the flow is redriven",
    noticedBy: onRedis("members that succeed after their flow has failed")
  },
  {
    id: "redis/steps-of-members-of-a-replaced-flow",
    file: "packages/runtime/src/DocketEngine.ts",
    find: "flow?.key !== key || flow.generation >= generation",
    replace: "true",
    breaks: "who watches a flow hears of members of the one that it replaced",
    noticedBy: onRedis("changes of a flow → steps of its members")
  },
  {
    id: "redis/no-hash-tag",
    file: "packages/redis-store/src/internal/layout.ts",
    find: "`${prefix}:{${encodeURIComponent(name)}}:`",
    replace: "`${prefix}:${encodeURIComponent(name)}:`",
    breaks: "a cluster refuses every script",
    noticedBy: onCluster("added without a time")
  },
  {
    id: "redis/clock-of-the-day",
    file: "packages/redis-store/src/internal/session.ts",
    find: "const millis = () => Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n)",
    replace: "const millis = () => clock.currentTimeMillisUnsafe()",
    breaks: "a worker whose clock is set back sleeps through what is due",
    noticedBy: integration("packages/redis-store/test/clock.test.ts", "the clock of a worker goes back")
  }
]
