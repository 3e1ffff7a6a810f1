/**
 * One turn of a worker: settles what has finished, promotes what is due, takes over what is abandoned, claims.
 *
 * KEYS: the prelude's, the groups that the worker serves and those of its settlements, the flows of its settlements, then
 * `done:<key>` for each settlement.
 * ARGV: the prelude's; worker, lease, capacity, capacity for flows that are between two steps, where the key begins in
 * `done:<key>`; per group: the lane's room (or -1 for no limit of its own), its lane, its task, whether it may be claimed;
 * number of groups that the worker serves, the first ones; number of groups with limits, and per group: its number, how many
 * may run at once (or nothing), how many may start in a window (or nothing), the window, whether others are dropped, the
 * cooldown (or nothing); whether a settlement may need what was not named; number of plain completions, and per completion:
 * token, exit; then the other settlements: token, change, and what the change needs.
 * States: running → completed, failed, cancelled, skipped, scheduled, ready, held; scheduled, held → ready; ready → running,
 * held; members that are added: none → scheduled, ready, held.
 * Reply: `more` and what was not named, and nothing is written; or now; next time to do something; a letter per settlement;
 * remarks; then key and record of each claim.
 *
 * A remark is three texts. The number of a claim, what its earlier attempts failed with, and its trace; the number, `Skipped`
 * and a row of the reason and the author (or nothing), or `Abandoned` and nothing: a claim that is to be settled at once,
 * since that needs a key that was not named; the number, `Dropped` and nothing: a claim that is not to run; 0, `Elsewhere`,
 * and a group that was not named and has runs that a gate has room for again; 0, `Late`, and a group that runs of flows are in
 * or go to whose patience has ended (nothing is claimed then, it may be one of them); or 0, `Garbage`, and a row of a flow,
 * a gather that it has forgotten, and how many places that had.
 */
import { adding } from "./adding.ts"
import { most as batch } from "./bounds.ts"
import { prelude, strikes } from "./prelude.ts"

export const turn = `${prelude}${strikes}${adding}
local worker, lease, capacity, between, keyAt =
  arg(), tonumber(arg()), math.min(tonumber(arg()), ${batch}), math.min(tonumber(arg()), ${batch}), tonumber(arg())
local rooms = {}
local counted = {}
for i = 1, #order do
  local g = order[i]
  local room = tonumber(arg())
  g.lane, g.task, g.open = arg(), arg(), arg() == '1'
  if room >= 0 then rooms[g.lane] = room end
  local c = (i - 1) * 3
  counted[c + 1], counted[c + 2], counted[c + 3] = g.id .. ':s', g.id .. ':r', g.id .. ':x'
end
for from = 1, #counted, 3000 do
  local to = math.min(from + 2999, #counted)
  local values = redis.call('HMGET', COUNTS, unpack(counted, from, to))
  for i = from, to, 3 do
    local g = order[(i + 2) / 3]
    local v = i - from
    g.hadS, g.hadR, g.hadX = tonumber(values[v + 1] or 0), tonumber(values[v + 2] or 0), tonumber(values[v + 3] or 0)
  end
end

served = tonumber(arg())
local limited = tonumber(arg())
for _ = 1, limited do
  local g = order[tonumber(arg())]
  gate().limits[g.id] = { c = tonumber(arg()), r = tonumber(arg()), window = tonumber(arg()), drops = arg() == '1',
    cooldown = tonumber(arg()) }
end

local answers, keys = {}, {}
local n = #KEYS - extra
for i = 1, n do keys[i] = sub(KEYS[extra + i], keyAt) end
if n > 0 then load(keys) end

-- Why a settlement with a token that is not current does nothing: it may have been applied, and its reply was lost.
local function refusal(v, done, held)
  gate().free(held)
  if v then return decode(v).settled == held and 'D' or 'L' end
  local outcome = redis.call('GET', done)
  if not outcome then return 'L' end
  local _, _, settled = unpackFrom('>BBd', outcome)
  return settled == held and 'D' or 'L'
end

-- Ends a run with its exit; one that goes on is scheduled anew under its key, with the next generation.
local function finish(r, key, done, state, exit, successor)
  if not successor or cancelling(r) then return settle(r, key, done, state, EXIT, exit) end
  take(r, key)
  local keep = lasting(state == FAILED and r.keepF or r.keepS)
  if keep > 0 then
    redis.call('SET', done, outcomeOf(r, state, EXIT, exit, ''), 'PX', keep)
  else
    redis.call('DEL', done)
  end
  finished(r.gid, key, r.generation, 'Exit', exit)
  seq = seq + 1
  r.generation = seq
  r.attempt, r.lost, r.token, r.flags, r.worker = 0, 0, 0, r.flags - r.flags % 2, ''
  if hasNote(r) then setNote(r, key, '', '', note(key)[3]) end
  r.payload, r.gid = successor.payload, successor.gid
  if successor.gates ~= '' then
    r.gates = successor.gates
  end
  place(r, key, dueOf(successor.due), true)
end

-- Puts a run back that is to run again.
local function again(r, key, change, after, exit, failures)
  if change ~= 'Released' then r.lost = 0 end
  if change == 'Retry' then
    setNote(r, key, failures, '', note(key)[3])
  else
    if hasNote(r) then local old = note(key); setNote(r, key, old[1], '', old[3]) end
    r.attempt = r.attempt - 1
  end
  -- the patience of its flow ended meanwhile
  if r.part and r.part.deadline <= now then return flow().interpret(r, key, 'Expired') end
  take(r, key)
  r.token, r.worker = 0, ''
  if change == 'Released' then return ready(r, key, true, 'worker') end
  if change == 'Retry' then publish(r.gid, key, r.generation, 'Retrying', r.attempt, exit, now + after) end
  place(r, key, now + after, change == 'Snooze')
end

local wary, plain = arg() == '1', tonumber(arg())
local plainAt = at
at = at + plain * 2

-- Settlements that are not plain completions: what each needs.
local function readChange()
  local c = { held = tonumber(arg()), tag = arg() }
  local tag = c.tag
  if tag == 'Completed' or tag == 'Failed' then
    c.exit = arg()
    if arg() == '1' then c.successor = { due = arg(), payload = arg(), gid = arg(), gates = arg() } end
  elseif tag == 'Retry' then
    c.after, c.exit, c.failures = tonumber(arg()), arg(), arg()
  elseif tag == 'Snooze' then
    c.after = tonumber(arg())
  elseif tag == 'Skipped' or tag == 'Dropped' or tag == 'Abandoned' then
    c.reason = arg()
    if tag == 'Skipped' then c.reason, c.author = textAt(c.reason, 1), textAt(c.reason, 2) end
  elseif tag == 'HandOver' then
    c.exit, c.expired = arg(), arg() == '1'
  elseif tag == 'Continue' then
    c.head, c.forget, c.to = flow().readHead(), arg(), arg()
    if c.to == 'Gather' then
      c.gather = arg()
    else
      c.due = dueOf(arg())
      if c.to == 'Step' then
        c.gid, c.priority, c.payload, c.gates = arg(), tonumber(arg()), arg(), arg()
        if c.gates == '' then c.gates = nil end
      end
    end
    if arg() == '1' then
      local members = readAdditions()
      c.members = members
      function members.add() adder().all(members) end
    end
  end
  return c
end

-- what belongs to a flow may concern more than was named
local changes
local records, parts, places = {}, {}, {}
if wary then
  changes = {}
  local more, want = wanting()
  for i = 1, n do
    local held
    if i <= plain then
      held = tonumber(ARGV[plainAt + i * 2 - 1])
    else
      changes[i] = readChange()
      held = changes[i].held
    end
    local v = cache[keys[i]]
    local state, flags, current, gl, p, _
    if v then state, flags, _, _, current, _, _, _, _, _, _, _, _, _, gl, p = unpackFrom(HEAD, v) end
    if state == RUNNING and current == held then
      want(groups, sub(v, p, p + gl - 1))
      if flags >= 8 then
        p = p + gl
        if flags % 8 >= 4 then _, p = gatesAt(v, p) end
        records[i] = v
        parts[i], places[i] = flow().glance(v, p)
        flowing.wants(parts[i], keys[i], want)
      end
      local members = changes[i] and changes[i].members
      if members then
        load(members.keys)
        wantFor(members, want)
      end
    end
  end
  if #more > 1 then return more end
end

-- Whether what a part of a flow concerns is known, and is nothing but its record and its parent.
local function isLeaf(i, record)
  local part = records[i] == record and parts[i]
  return part and part.key ~= '' and not part.owns and part.deadline == math.huge
end

-- what has completed, and nothing else: most of what there is
local forgotten = {}
for i = 1, plain do
  local key, done, held, exit = keys[i], KEYS[extra + i], tonumber(ARGV[plainAt + i * 2 - 1]), ARGV[plainAt + i * 2]
  if flowing then flowing.sync(key) end
  local v = cache[key]
  local state, flags, attempt, lost, current, settled, started, wl, arrival, due, generation, priority, keepS, keepF, gl, p
  if v then
    state, flags, attempt, lost, current, settled, started, wl, arrival, due, generation, priority, keepS, keepF, gl, p =
      unpackFrom(HEAD, v)
  end
  if state ~= RUNNING or current ~= held then
    answers[i] = refusal(v, done, held)
  elseif flags >= 8 and not (keepS == 0 and not watched and isLeaf(i, v)) then
    answers[i] = 'A'
    local r = decode(v)
    r.settled = held
    settle(r, key, done, COMPLETED, EXIT, exit)
  else
    answers[i] = 'A'
    local gid = #order == 1 and order[1].id or sub(v, p, p + gl - 1)
    local g = groups[gid]
    g.x = g.x - 1
    push(g, 'unleases', key)
    if flags % 4 >= 2 then dropNote(key) end
    if flags % 8 >= 4 then gate().left(gatesAt(v, p + gl), RUNNING, gid, arrival, key) end
    if keepS > 0 then
      keepS = lasting(keepS)
      redis.call('SET', done, pack(DONE, COMPLETED, EXIT, held, generation, now, attempt, due, gl, #exit) .. gid .. exit, 'PX', keepS)
    else
      forgotten[#forgotten + 1] = done
    end
    cache[key] = false
    dirty[key] = true
    if flags >= 8 then flowing.report(parts[i], places[i], 'D', exit) else finished(gid, key, generation, 'Exit', exit) end
  end
end
for from = 1, #forgotten, 4000 do redis.call('DEL', unpack(forgotten, from, math.min(from + 3999, #forgotten))) end

for i = plain + 1, n do
  local key, done = keys[i], KEYS[extra + i]
  local c = changes and changes[i] or readChange()
  local change, held = c.tag, c.held
  if flowing then flowing.sync(key) end
  local v = cache[key]
  local r = v and decode(v)
  if not r or r.state ~= RUNNING or r.token ~= held then
    answers[i] = refusal(v, done, held)
  else
    answers[i] = 'A'
    if change == 'Skipped' or change == 'Abandoned' then
      -- it was claimed for nothing else
      r.attempt = r.attempt - 1
    else
      r.settled = held
    end
    if change == 'Completed' or change == 'Failed' then
      finish(r, key, done, change == 'Failed' and FAILED or COMPLETED, c.exit, c.successor)
    elseif change == 'Continue' or change == 'HandOver' then
      flow().goOn(r, key, done, c)
    elseif change == 'Skipped' then
      settle(r, key, done, SKIPPED, STRUCK, c.reason, c.author)
    elseif change == 'Dropped' then
      settle(r, key, done, SKIPPED, LIMITED, c.reason)
    elseif change == 'Cancelled' or cancelling(r) then
      -- also one that was abandoned
      if r.part then flow().abort(r, key, done, change == 'Cancelled') else settle(r, key, done, CANCELLED, NONE, '') end
    else
      again(r, key, change, c.after, c.exit, c.failures)
    end
  end
end
if flowing then flowing.syncAll() end
flushIndexes()

-- what is due, in one order over all groups; the index of a group has it in that order
local promoted, several = {}, false
for i = 1, #order do
  local g = order[i]
  if g.hadS + g.s > 0 then
    local members = redis.call('ZRANGEBYSCORE', g.due, '-inf', now, 'LIMIT', 0, ${batch})
    if #members > 0 then
      many('ZREM', g.due, members)
      local due = {}
      for m = 1, #members do due[m] = sub(members[m], 9) end
      load(due)
      several = several or #promoted > 0
      for m = 1, #members do
        local v = cache[due[m]]
        if v then
          local state, _, _, _, _, _, _, _, _, _, generation = unpackFrom('>BBI4I4dddHddd', v)
          if state == SCHEDULED and generation == unpackFrom('>d', members[m]) then
            if sub(v, 85, 84 + #g.head) == g.head then promoted[#promoted + 1] = due[m] else g.s = g.s - 1 end
          end
        elseif unsound[due[m]] then
          g.s = g.s - 1
        end
      end
    end
  end
end
if several then
  local times = {}
  for _, key in ipairs(promoted) do local r = decode(cache[key]); times[key] = { r.due, r.generation } end
  table.sort(promoted, function(a, b)
    local s, t = times[a], times[b]
    if s[1] ~= t[1] then return s[1] < t[1] end
    return s[2] < t[2]
  end)
end
for _, key in ipairs(promoted) do
  local v = cache[key]
  local _, flags, attempt, lost, current, settled, started, _, _, _, generation, priority, _, _, gl, p = unpackFrom(HEAD, v)
  local gid = #order == 1 and order[1].id or sub(v, p, p + gl - 1)
  local g = groups[gid]
  g.s = g.s - 1
  if priority == 0 and not watched and flags % 8 < 4 then
    seq = seq + 1
    g.r = g.r + 1
    push(g, 'back', entry(seq, key))
    g.awake = true
    cache[key] = pack('>BBI4I4dddHd', READY, flags, attempt, lost, current, settled, started, 0, seq) .. sub(v, 45)
    dirty[key] = true
  else
    ready(decode(v), key, false)
  end
end

-- what is abandoned
for i = 1, #order do
  local g = order[i]
  if g.hadX + g.x > 0 then
    local members = redis.call('ZRANGEBYSCORE', g.lease, '-inf', now, 'LIMIT', 0, ${batch})
    if #members > 0 then load(members) end
    for _, key in ipairs(members) do
      local r = cache[key] and decode(cache[key])
      if r and r.part and r.state == RUNNING and r.gid == g.id and flow().abandoned(r, key) then
        -- its interpreter gets it
      elseif r and r.state == RUNNING and r.gid == g.id then
        -- one that somebody cancelled is claimed once more, to be settled: its outcome needs a key that was not named here
        take(r, key)
        r.lost, r.token, r.worker = r.lost + 1, 0, ''
        if hasNote(r) then local old = note(key); setNote(r, key, old[1], '', old[3]) end
        ready(r, key, true, 'worker')
      else
        redis.call('ZREM', g.lease, key)
        if unsound[key] then g.x = g.x - 1 end
      end
    end
  end
end
if meta[4] then
  local first = redis.call('ZRANGE', DEADLINES, 0, 0, 'WITHSCORES')[2]
  if not first then
    redis.call('HDEL', META, 'deadlines')
    meta[4] = nil
  elseif tonumber(first) <= now then
    flow().expire()
  end
end
-- one whose patience has ended may be among those that would be claimed
if flowing and next(flowing.elsewhere) then capacity, between = 0, 0 end
-- somebody may be held by a gate that the worker does not declare any more
local looks = limited > 0 or tonumber(meta[3] or 0) > 0
if looks then gate().look() end
if gating then gating.flush() end
flushIndexes()

local paused = {}
if redis.call('EXISTS', PAUSES) == 1 then
  for _, text in ipairs(redis.call('HVALS', PAUSES)) do
    local p = cjson.decode(text)
    for i = 1, #order do
      local g = order[i]
      if (p.task == cjson.null or p.task == g.task) and (p.lane == cjson.null or p.lane == g.lane) then paused[g.id] = true end
    end
  end
end

-- Where ready runs are: the list of a group, and its sorted set of other priorities and of those given back. Runs of flows
-- that are between two steps have a capacity of their own.
local sources = {}
for i = 1, #order do
  local g = order[i]
  if g.open and not paused[g.id] and g.hadR + g.r > 0 and (g.lane == '' and between or capacity) > 0 then
    sources[#sources + 1] = { g = g, i = 0, n = 0, passed = 0 }
    if redis.call('EXISTS', g.prio) == 1 then sources[#sources + 1] = { g = g, i = 0, n = 0, passed = 0, gone = {} } end
  end
end
local page = 2 + math.ceil(math.max(capacity, between) / math.max(1, #sources))
local stale = 0

local function pass(s)
  s.passed = s.passed + 1
  if s.gone then s.gone[#s.gone + 1] = s.members[s.i] end
end

-- Goes to the next run of a source. Entries of runs that have been cancelled or replaced are passed, a bounded number.
local function advance(s)
  while not s.ended do
    if s.i == s.n then
      local range, index = 'LRANGE', s.g.ready
      if s.gone then range, index = 'ZRANGE', s.g.prio end
      s.members = redis.call(range, index, s.passed, s.passed + page - 1)
      s.keys, s.i, s.n = {}, 0, #s.members
      for m = 1, s.n do s.keys[m] = sub(s.members[m], 9) end
      load(s.keys)
    end
    if s.i == s.n or stale > ${batch} then s.ended = true; return end
    s.i = s.i + 1
    local v = cache[s.keys[s.i]]
    if v then
      local state, flags, attempt, lost, _, settled, _, _, arrival, _, _, priority = unpackFrom('>BBI4I4dddHdddd', v)
      local own = s.g.head
      if state ~= READY or arrival ~= unpackFrom('>d', s.members[s.i]) then
        -- of a run that has gone on
      elseif sub(v, 85, 84 + #own) ~= own then
        unsound[s.keys[s.i]] = true
      else
        s.record, s.flags, s.attempt, s.lost, s.settled, s.arrival, s.priority = v, flags, attempt, lost, settled, arrival, priority
        return
      end
    end
    if unsound[s.keys[s.i]] then s.g.r = s.g.r - 1 end
    stale = stale + 1
    pass(s)
  end
end

local claims, replies, remarks = 0, {}, {}
local leaseEnd = str(now + lease)

-- Claims the run of a source, or finds it held.
local function claim(best)
  local g, key, v, flags = best.g, best.keys[best.i], best.record, best.flags
  pass(best)
  best.record = nil
  local isBetween = g.lane == ''
  local strike = struck and not isBetween and struck(g.task, decode(v).payload)
  local isStopped
  if flags >= 8 and not isBetween then
    -- in a flow it is a failure of the step
    local p = 87 + #g.id
    if flags % 8 >= 4 then p = select(2, gatesAt(v, p)) end
    v, isStopped = flow().claim(v, p, strike)
    strike = nil
  end
  local isOnly = strike or isStopped or flags % 2 == 1
  local verdict = flags % 8 >= 4 and
    gate().refuses(v, key, 87 + #g.id, g.id, isOnly, best.attempt + best.lost == 0, best.arrival)
  g.r = g.r - 1
  if verdict == 'held' then
    stale = stale + 1
    return false
  end
  claims = claims + 1
  token = token + 1
  g.x = g.x + 1
  if rooms[g.lane] then rooms[g.lane] = rooms[g.lane] - 1 end
  if strike then
    remarks[#remarks + 1] = texts(claims, 'Skipped', texts(strike.reason, strike.author or ''))
  elseif flags % 2 == 1 then
    remarks[#remarks + 1] = texts(claims, 'Abandoned', '')
  elseif verdict == 'dropped' then
    remarks[#remarks + 1] = texts(claims, 'Dropped', '')
  else
    if flags % 4 >= 2 then
      local old = note(key)
      remarks[#remarks + 1] = texts(claims, old[1], old[3])
      if old[2] ~= '' then
        local r = decode(v)
        setNote(r, key, old[1], '', old[3])
        flags = r.flags
      end
    end
    if watched and not isBetween then
      local r = decode(v)
      publish(g.id, key, r.generation, 'Started', r.attempt + 1, worker)
      if r.part and r.attempt == 0 then flowing.started(r, key) end
    end
  end
  v = pack(CLAIM, RUNNING, flags, best.attempt + 1, best.lost, token, best.settled, now, #worker) .. sub(v, 37) .. worker
  cache[key] = v
  dirty[key] = true
  push(g, 'leases', leaseEnd)
  push(g, 'leases', key)
  replies[claims * 2 - 1] = key
  replies[claims * 2] = v
  return true
end

-- Claims at most so many, of flows that are between two steps or of the others: the earliest of the highest priority first.
local function claimSome(most, ofFlows)
  while most > 0 do
    local best
    for i = 1, #sources do
      local s = sources[i]
      if (s.g.lane == '') == ofFlows then
        if not s.record then advance(s) end
        if s.record and not (rooms[s.g.lane] and rooms[s.g.lane] <= 0) and
          (not best or s.priority > best.priority or (s.priority == best.priority and s.arrival < best.arrival)) then
          best = s
        end
      end
    end
    if not best then break end
    if claim(best) then most = most - 1 end
  end
end
claimSome(between, true)
claimSome(capacity, false)
for i = 1, #sources do
  local s = sources[i]
  if s.gone then
    many('ZREM', s.g.prio, s.gone)
  elseif s.passed > 0 then
    redis.call('LTRIM', s.g.ready, s.passed, -1)
  end
end
if gating then
  gating.flush()
  for gid in pairs(gating.elsewhere) do remarks[#remarks + 1] = texts(0, 'Elsewhere', gid) end
end
if flowing then
  for gid in pairs(flowing.elsewhere) do remarks[#remarks + 1] = texts(0, 'Late', gid) end
  for _, text in ipairs(flowing.garbage) do remarks[#remarks + 1] = texts(0, 'Garbage', text) end
end
flush()

local nextAt = (stale > ${batch} or (gating and gating.more) or (flowing and flowing.more)) and now
if looks then
  local look = redis.call('ZRANGEBYSCORE', LOOKS, '(' .. str(now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
  if look then nextAt = nextAt or tonumber(look) end
end
if meta[4] then
  local first = tonumber(redis.call('ZRANGE', DEADLINES, 0, 0, 'WITHSCORES')[2])
  if first and first > now and not (nextAt and nextAt <= first) then nextAt = first end
end
for i = 1, #order do
  local g = order[i]
  if g.hadR + g.r > 0 then
    -- what is left is for the others
    g.awake = not paused[g.id]
    wake(g)
  elseif g.n > served and g.sooner then
    -- who serves it has not heard of it
    wake(g)
  end
  for _, index in ipairs({ g.hadS + g.s > 0 and g.due, g.hadX + g.x > 0 and g.lease }) do
    local first = index and redis.call('ZRANGE', index, 0, 0, 'WITHSCORES')
    local score = first and tonumber(first[2])
    if score and not (nextAt and nextAt <= score) then nextAt = score end
  end
end
return { str(now), nextAt and str(nextAt) or '', table.concat(answers), table.concat(remarks), unpack(replies) }
`
