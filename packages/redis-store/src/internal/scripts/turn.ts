/**
 * One turn of a worker: settles what has finished, promotes what is due, takes over what is abandoned, claims.
 *
 * KEYS: the prelude's, the groups that the worker serves and those of its settlements, then `done:<key>` for each settlement.
 * ARGV: the prelude's; worker, lease, capacity; per group: the lane's room (or -1 for no limit of its own), the index of its
 * lane, its task, whether it may be claimed; number of settlements, and per settlement: key, generation, token, change, and
 * what the change needs.
 * States: running → completed, failed, cancelled, scheduled, ready; scheduled → ready; ready → running, skipped.
 * Reply: now, next time to do something, the answers to the settlements, ready runs left, then eleven texts per claim.
 */
import { prelude } from "./prelude.ts"

// Most runs that one turn promotes or takes over, of each group. Two hundred take about a millisecond of the server.
const batch = 200

export const turn = `${prelude}
local worker, lease, capacity = arg(), tonumber(arg()), tonumber(arg())
local rooms = {}
for i = 1, #order do
  local g = order[i]
  g.room, g.lane, g.task, g.open = tonumber(arg()), arg(), arg(), arg() == '1'
  if g.room >= 0 then rooms[g.lane] = g.room end
end

local answers = {}
local n = tonumber(arg())
local settlements, keys = {}, {}
for i = 1, n do
  local s = { key = arg(), generation = tonumber(arg()), token = tonumber(arg()), change = arg() }
  if s.change == 'Completed' or s.change == 'Failed' then
    s.exit = arg()
    s.successor = arg() == '1'
    if s.successor then s.due, s.payload, s.gid = arg(), arg(), arg() end
  elseif s.change == 'Retry' then
    s.after, s.exit, s.failures = tonumber(arg()), arg(), arg()
  elseif s.change == 'Snooze' then
    s.after = tonumber(arg())
  elseif s.change == 'Skipped' then
    s.reason = arg()
  end
  settlements[i] = s
  keys[i] = s.key
end
if n > 0 then load(keys) end

for i = 1, n do
  local s = settlements[i]
  local key = s.key
  local r = cache[key]
  local done = KEYS[extra + i]
  if not r or r.generation ~= s.generation or r.state ~= RUNNING or r.token ~= s.token then
    if r and r.settled == s.token then
      answers[i] = 'D'
    elseif not r then
      -- it may have settled, and the reply was lost: the outcome remembers its generation
      local v = redis.call('GET', done)
      answers[i] = v and tonumber(string.match(v, '^%d+')) == s.token and 'D' or 'L'
    else
      answers[i] = 'L'
    end
  else
    answers[i] = 'A'
    r.settled = r.token
    local change = s.change
    if change == 'Completed' or change == 'Failed' then
      if s.successor and not cancelling(r) then
        take(r, key)
        local keep = change == 'Failed' and r.keepF or r.keepS
        if keep > 0 then
          redis.call('SET', done, outcomeOf(r, change, 'Exit', s.exit, ''), 'PX', str(keep))
        else
          redis.call('DEL', done)
        end
        publish(r, key, 'Finished', 'Exit', s.exit)
        seq = seq + 1
        r.generation = seq
        r.attempt, r.lost, r.token, r.flags, r.worker = 0, 0, 0, r.flags - r.flags % 2, ''
        if hasNote(r) then setNote(r, key, '', '', note(key)[3]) end
        r.payload = s.payload
        r.gid = s.gid
        local due = tonumber(string.sub(s.due, 3))
        if string.sub(s.due, 1, 2) == 'in' then due = now + due end
        place(r, key, due, true)
      else
        settle(r, key, done, change, 'Exit', s.exit)
      end
    elseif change == 'Skipped' then
      settle(r, key, done, 'Skipped', 'Struck', s.reason)
    elseif change == 'Cancelled' or cancelling(r) then
      settle(r, key, done, 'Cancelled', 'Cancelled', '')
    else
      take(r, key)
      r.token, r.worker = 0, ''
      if change ~= 'Released' then r.lost = 0 end
      if change == 'Retry' then
        setNote(r, key, s.failures, '', note(key)[3])
        publish(r, key, 'Retrying', r.attempt, s.exit, now + s.after)
        place(r, key, now + s.after, false)
      else
        if hasNote(r) then local old = note(key); setNote(r, key, old[1], '', old[3]) end
        r.attempt = r.attempt - 1
        if change == 'Snooze' then place(r, key, now + s.after, true) else ready(r, key, true) end
      end
    end
  end
end
flushIndexes()

-- what is due, in one order over all groups
local promoted = {}
for i = 1, #order do
  local g = order[i]
  local members = redis.call('ZRANGEBYSCORE', g.due, '-inf', now, 'LIMIT', 0, ${batch})
  if #members > 0 then
    load(members)
    many('ZREM', g.due, members)
    for _, key in ipairs(members) do
      local r = cache[key]
      if r and r.state == SCHEDULED and r.gid == g.id and r.due <= now then promoted[#promoted + 1] = { key, r } end
    end
  end
end
table.sort(promoted, function(a, b)
  if a[2].due ~= b[2].due then return a[2].due < b[2].due end
  return a[2].generation < b[2].generation
end)
for _, p in ipairs(promoted) do
  count(p[2].gid, 's', -1)
  ready(p[2], p[1], false)
end

-- what is abandoned
for i = 1, #order do
  local g = order[i]
  local members = redis.call('ZRANGEBYSCORE', g.lease, '-inf', now, 'LIMIT', 0, ${batch})
  if #members > 0 then
    load(members)
    for _, key in ipairs(members) do
      local r = cache[key]
      if r and r.state == RUNNING and r.gid == g.id and r.lease <= now then
        -- one that somebody cancelled is claimed once more, to be settled: its outcome needs a key that was not named here
        take(r, key)
        r.lost, r.token, r.worker = r.lost + 1, 0, ''
        ready(r, key, true)
      else
        redis.call('ZREM', g.lease, key)
      end
    end
  end
end
flushIndexes()

-- the earliest of the highest priority among the groups
local paused = {}
if capacity > 0 and redis.call('EXISTS', PAUSES) == 1 then
  for _, text in ipairs(redis.call('HVALS', PAUSES)) do
    local p = cjson.decode(text)
    for i = 1, #order do
      local g = order[i]
      local lane = string.match(g.id, '^[^/]*/([^/]*)/')
      if (p.task == cjson.null or p.task == g.task) and (p.lane == cjson.null or p.lane == g.lane) then paused[g.id] = true end
    end
  end
end

local claimed = {}
local claims = 0
local replies = {}

local function fetch(g)
  if g.list == nil then
    g.list, g.ranks, g.listAt, g.rankAt, g.listEnd, g.rankEnd, g.listDone, g.rankDone = {}, {}, 1, 1, false, false, 0, 0
  end
  while g.listAt > #g.list and not g.listEnd do
    local from = g.listDone
    local members = redis.call('LRANGE', g.ready, from, from + capacity - 1)
    if #members < capacity then g.listEnd = true end
    g.list, g.listAt = {}, 1
    local ks = {}
    for i, m in ipairs(members) do
      local colon = string.find(m, ':', 1, true)
      g.list[i] = { tonumber(string.sub(m, 1, colon - 1)), string.sub(m, colon + 1) }
      ks[i] = g.list[i][2]
    end
    load(ks)
  end
  while g.rankAt > #g.ranks and not g.rankEnd do
    local members = redis.call('ZRANGE', g.prio, g.rankDone, g.rankDone + capacity - 1)
    if #members < capacity then g.rankEnd = true end
    g.ranks, g.rankAt = {}, 1
    local ks = {}
    for i, m in ipairs(members) do
      local colon = string.find(m, ':', 1, true)
      g.ranks[i] = { tonumber(string.sub(m, 1, colon - 1)), string.sub(m, colon + 1), m }
      ks[i] = g.ranks[i][2]
    end
    load(ks)
  end
end

local function valid(g, e)
  local r = cache[e[2]]
  return r and r.state == READY and r.gid == g.id and r.arrival == e[1]
end

-- the head of a group, stale entries passed over
local function head(g)
  while true do
    fetch(g)
    local e = g.list[g.listAt]
    if e and not valid(g, e) then
      g.listAt = g.listAt + 1
      g.listDone = g.listDone + 1
    else
      local p = g.ranks[g.rankAt]
      if p and not valid(g, p) then
        redis.call('ZREM', g.prio, p[3])
        g.rankAt = g.rankAt + 1
      elseif p and (not e or cache[p[2]].priority > 0 or (cache[p[2]].priority == 0 and p[1] < e[1])) then
        return p, true
      else
        return e, false
      end
    end
  end
end

while claims < capacity do
  local best, bestGroup, ranked
  for i = 1, #order do
    local g = order[i]
    if g.open and not paused[g.id] and not (rooms[g.lane] and rooms[g.lane] <= 0) then
      local e, isRanked = head(g)
      if e then
        local r = cache[e[2]]
        if not best or r.priority > cache[best[2]].priority or (r.priority == cache[best[2]].priority and e[1] < best[1]) then
          best, bestGroup, ranked = e, g, isRanked
        end
      end
    end
  end
  if not best then break end
  local g, key = bestGroup, best[2]
  local r = cache[key]
  if ranked then
    redis.call('ZREM', g.prio, best[3])
    g.rankAt = g.rankAt + 1
  else
    g.listAt = g.listAt + 1
    g.listDone = g.listDone + 1
  end
  local verdict = ''
  local strike = struck(g.task, r.payload)
  if strike then verdict = 'S' .. strike.reason elseif cancelling(r) then verdict = 'C' end
  count(r.gid, 'r', -1)
  count(r.gid, 'x', 1)
  token = token + 1
  metaChanged = true
  r.state, r.token, r.worker, r.started, r.lease = RUNNING, token, worker, now, now + lease
  r.attempt = r.attempt + 1
  g.leases[#g.leases + 1] = str(r.lease)
  g.leases[#g.leases + 1] = key
  put(key, r)
  local failures, trace = '', ''
  if hasNote(r) then
    local old = note(key)
    failures, trace = old[1], old[3]
    if old[2] ~= '' then setNote(r, key, failures, '', trace) end
  end
  if verdict == '' then publish(r, key, 'Started', r.attempt, worker) end
  claims = claims + 1
  if rooms[g.lane] then rooms[g.lane] = rooms[g.lane] - 1 end
  local base = #replies
  replies[base + 1] = key
  replies[base + 2] = r.gid
  replies[base + 3] = str(r.generation) .. ',' .. str(r.token) .. ',' .. r.attempt .. ',' .. r.lost .. ',' .. str(r.due) .. ',' .. str(now)
  replies[base + 4] = failures
  replies[base + 5] = trace
  replies[base + 6] = verdict
  replies[base + 7] = r.payload
end

for i = 1, #order do
  local g = order[i]
  if g.listDone and g.listDone > 0 then redis.call('LTRIM', g.ready, g.listDone, -1) end
end
flush()

local nextAt = ''
for i = 1, #order do
  local g = order[i]
  if redis.call('LLEN', g.ready) > 0 or redis.call('ZCARD', g.prio) > 0 then
    -- what is left is for the others
    g.awake = not paused[g.id]
    wake(g)
  end
  for _, index in ipairs({ g.due, g.lease }) do
    local first = redis.call('ZRANGE', index, 0, 0, 'WITHSCORES')
    if first[2] and (nextAt == '' or tonumber(first[2]) < nextAt) then nextAt = tonumber(first[2]) end
  end
end
return { str(now), nextAt == '' and '' or str(nextAt), table.concat(answers), unpack(replies) }
`
