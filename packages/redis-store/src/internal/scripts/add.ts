/**
 * Adds runs.
 *
 * KEYS: the prelude's, the groups of the additions, then `done:<key>` for each addition that redrives.
 * ARGV: the prelude's; `write`, `whole` (nothing is written if a strike or a cooldown refuses one), or `ask` (nothing is
 * written, and all that would be refused are named); number of kinds, and per kind: group, task, onExisting, priority,
 * retention of successes, of failures, flags (4: the payloads begin with gates), debounce (or nothing: how long, at most how
 * long, whether the first payload counts); number of rows of additions that differ in key and payload only, and per row: how
 * many, kind, due (`at` and a time, or `in` and a delay), trace, generation to redrive (or nothing); then key and payload of
 * each addition.
 * States: none, scheduled, ready, held, running (replaced) → scheduled, ready, held. An addition may join a pending run
 * instead, or be ignored.
 * Reply: `taken` and the key that refuses it all; `elsewhere` and the group of a run that is to be replaced, which was not
 * named; `refused`, then of each that is its number, the disposition, reason and author (or nothing); or one text, then
 * reason and author (or nothing) of those struck and the keys of those that were joined. The text has a disposition, how many
 * in a row it is true of, the generation of the first of them, those of the others following it one by one, and when they are
 * due.
 */
import { prelude, strikes } from "./prelude.ts"

export const add = `${prelude}${strikes}
local mode = arg()
local kinds = {}
local wary, settles = false, false
for i = 1, tonumber(arg()) do
  local k = { gid = arg(), task = arg(), onExisting = arg(), priority = tonumber(arg()), keepS = tonumber(arg()),
    keepF = tonumber(arg()), flags = tonumber(arg()), debounce = arg() }
  if k.debounce ~= '' then
    local wait, most, first = string.match(k.debounce, '^(%d+)/(%d*)/(%d)$')
    k.wait, k.most, k.first, settles = tonumber(wait), tonumber(most) or math.huge, first == '1', true
  end
  if k.onExisting == 'fail' or k.onExisting == 'replace' then wary = true end
  kinds[i] = k
end
local rows = {}
for i = 1, tonumber(arg()) do
  local row = { n = tonumber(arg()), kind = kinds[tonumber(arg())], due = arg(), trace = arg(), redrive = arg() }
  local due = tonumber(sub(row.due, 3))
  if sub(row.due, 1, 2) == 'in' then due = now + due end
  row.due = due
  rows[i] = row
end
local keys, n = {}, 0
for i = at + 1, #ARGV, 2 do n = n + 1; keys[n] = ARGV[i] end
load(keys)

local ADDED, EXISTING, REPLACED, STOPPED, COOLING, JOINED_FIRST, JOINED_LAST = 1, 2, 3, 4, 5, 6, 7
-- as addOne below decides: a key that is taken is not refused
if mode ~= 'write' then
  local before, refused, i = {}, { 'refused' }, 0
  for _, row in ipairs(rows) do
    for _ = 1, row.n do
      i = i + 1
      local key, payload = keys[i], ARGV[at + i * 2]
      local gates, stop
      if row.kind.flags >= 4 then
        gates, stop = gatesAt(payload, 1)
        payload = sub(payload, stop)
      end
      if row.kind.onExisting == 'replace' or not (cache[key] or before[key]) then
        local strike = struck and struck(row.kind.task, payload)
        local cools = gates and row.redrive == '' and gate().isCooling(gates)
        if strike or cools then
          local about = strike or {}
          refused[#refused + 1] = str(i)
          refused[#refused + 1] = str(strike and STOPPED or COOLING)
          refused[#refused + 1] = about.reason or ''
          refused[#refused + 1] = about.author or ''
        else
          before[key] = true
        end
      end
    end
  end
  if mode == 'ask' or #refused > 1 then return refused end
end

if wary then
  local before, i = {}, 0
  for _, row in ipairs(rows) do
    for _ = 1, row.n do
      i = i + 1
      local key = keys[i]
      if row.kind.onExisting == 'fail' and (cache[key] or before[key]) then return { 'taken', key } end
      if row.kind.onExisting == 'replace' and cache[key] then
        local gid = decode(cache[key]).gid
        if not groups[gid] then return { 'elsewhere', gid } end
      end
      before[key] = true
    end
  end
end

-- the runs that may be joined have to be in a group that was named
if settles then
  local i = 0
  for _, row in ipairs(rows) do
    for _ = 1, row.n do
      i = i + 1
      if row.kind.debounce ~= '' then
        local other = gate().pending((gatesAt(ARGV[at + i * 2], 1)))
        local r = other and get(other)
        if r and not groups[r.gid] then return { 'elsewhere', r.gid } end
      end
    end
  end
end

local answers, reasons = {}, {}
local i, redrives = 0, 0
local function answer(disposition, n, generation, due)
  answers[#answers + 1] = pack('>BI4dd', disposition, n, generation, due)
end

local function addOne(row, key, payload)
  local kind, due = row.kind, row.due
  local gates, stop
  if kind.flags >= 4 then
    gates, stop = gatesAt(payload, 1)
    payload = sub(payload, stop)
  end
  local known = cache[key] and decode(cache[key])
  local taken, latest, latestDue
  local asked, joins, other, since = due, nil, nil, nil
  if kind.debounce ~= '' and row.redrive == '' then
    due = math.max(due, now + kind.wait)
    other, since = gate().pending(gates)
    -- who asks for it replaces the run instead
    if other and (other ~= key or kind.onExisting ~= 'replace') then joins = get(other) end
  end
  if row.redrive == '' then
    taken = known and kind.onExisting ~= 'replace' and not (joins and other == key)
  else
    redrives = redrives + 1
    local done = redis.call('GET', KEYS[extra + redrives])
    taken = known or not done
    if not taken then
      local _
      _, _, _, latest, _, _, latestDue = unpackFrom(DONE, done)
      taken = latest ~= tonumber(row.redrive)
    end
  end
  if known then latest, latestDue = known.generation, known.due end
  if taken then return answer(EXISTING, 1, latest or 0, latestDue or 0) end
  local strike = struck and struck(kind.task, payload)
  if strike then
    reasons[#reasons + 1] = strike.reason
    reasons[#reasons + 1] = strike.author or ''
    return answer(STOPPED, 1, 0, due)
  end
  if gates and row.redrive == '' and gate().isCooling(gates) then return answer(COOLING, 1, 0, due) end
  if joins then
    reasons[#reasons + 1] = other
    -- what is due keeps its place where it is
    local stays = joins.state ~= SCHEDULED and
      (kind.first or (joins.gates == gates and joins.gid == kind.gid and joins.priority == kind.priority))
    if not stays then take(joins, other) end
    if not kind.first then
      -- of a newer version, it may be for other workers
      joins.gid, joins.priority, joins.keepS, joins.keepF = kind.gid, kind.priority, kind.keepS, kind.keepF
      joins.payload, joins.gates = payload, gates
      if row.trace ~= '' or hasNote(joins) then setNote(joins, other, '', '', row.trace) end
    end
    gate().settles(joins.gates, other, since)
    if stays then
      put(other, joins)
    elseif joins.state == SCHEDULED then
      place(joins, other, math.max(asked, math.min(now + kind.wait, since + kind.most)), true)
    else
      ready(joins, other, true)
    end
    return answer(kind.first and JOINED_FIRST or JOINED_LAST, 1, joins.generation, joins.due)
  end
  if known then
    if known.gates and known.state == RUNNING then gate().replaced(known, key) end
    take(known, key)
  end
  seq = seq + 1
  local r = { state = 0, flags = kind.flags, gates = gates, attempt = 0, lost = 0, priority = kind.priority,
    generation = seq, arrival = 0, due = due, token = 0, settled = 0, started = 0, keepS = kind.keepS, keepF = kind.keepF, gid = kind.gid, worker = '', payload = payload }
  if row.trace ~= '' or (known and hasNote(known)) then setNote(r, key, '', '', row.trace) end
  if kind.debounce ~= '' and row.redrive == '' then gate().settles(gates, key, now) end
  if known then publish(r.gid, key, r.generation, 'Replaced', due) end
  place(r, key, due, not known)
  answer(known and REPLACED or ADDED, 1, r.generation, due)
end

for _, row in ipairs(rows) do
  local kind, due = row.kind, row.due
  local gid, priority, keepS, keepF = kind.gid, kind.priority, kind.keepS, kind.keepF
  local g = groups[gid]
  local plain = row.redrive == '' and row.trace == '' and kind.flags == 0 and not struck and not watched
  local state = due <= now and READY or SCHEDULED
  local back = plain and state == READY and priority == 0 and list(g, 'back')
  local inRow = 0
  for _ = 1, row.n do
    i = i + 1
    local key, payload = keys[i], ARGV[at + i * 2]
    if plain and not cache[key] then
      seq = seq + 1
      inRow = inRow + 1
      if back then
        g.r = g.r + 1
        g.awake = true
        back[#back + 1] = entry(seq, key)
      elseif state == READY then
        g.r = g.r + 1
        g.awake = true
        push(g, 'ranked', seq - priority * 1099511627776)
        push(g, 'ranked', entry(seq, key))
      else
        schedule(g, key, seq, due)
      end
      cache[key] = pack(HEAD, state, 0, 0, 0, 0, 0, 0, 0, seq, due, seq, priority, keepS, keepF, #gid) .. gid .. payload
      dirty[key] = true
    else
      if inRow > 0 then answer(ADDED, inRow, seq - inRow + 1, due); inRow = 0 end
      addOne(row, key, payload)
    end
  end
  if inRow > 0 then answer(ADDED, inRow, seq - inRow + 1, due) end
end
flush()
for i = 1, #order do wake(order[i]) end
return { table.concat(answers), unpack(reasons) }
`

/**
 * Adds one run that nothing is special about: what a producer does most, without the tables that many need.
 *
 * KEYS: meta, runs, notes, counts, strikes, watch, and ready, prio, due, wake of the group.
 * ARGV: channel of events, group, onExisting, priority, retention of successes, of failures, due, trace, key, payload.
 * States: none → scheduled, ready.
 * Reply: as that of `add`; or `special`: there are strikes, or the run is to be replaced, and `add` has to do it.
 */
export const addOne = `
local META, RUNS, NOTES, COUNTS, STRIKES, WATCH = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local group, onExisting, priority, when, trace, key = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[7], ARGV[8], ARGV[9]
if redis.call('EXISTS', STRIKES) == 1 then return { 'special' } end
local known = redis.call('HGET', RUNS, key)
if known then
  if onExisting == 'fail' then return { 'taken', key } end
  if onExisting == 'replace' then return { 'special' } end
  local _, _, _, _, _, _, _, _, _, due, generation = struct.unpack('>BBI4I4dddHddd', known)
  return { struct.pack('>BI4dd', 2, 1, generation, due) }
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = tonumber(string.sub(when, 3))
if string.sub(when, 1, 2) == 'in' then due = now + due end
local seq = redis.call('HINCRBY', META, 'seq', 1)
local isReady = due <= now
redis.call('HSET', RUNS, key, struct.pack('>BBI4I4dddHddddddH', isReady and 2 or 1, trace == '' and 0 or 2, 0, 0, 0, 0, 0, 0, seq,
  due, seq, priority, tonumber(ARGV[5]), tonumber(ARGV[6]), #group) .. group .. ARGV[10])
if trace ~= '' then redis.call('HSET', NOTES, key, '0:0:' .. #trace .. ':' .. trace) end
local entry = struct.pack('>d', seq) .. key
local token
if isReady then
  if priority == 0 then
    redis.call('RPUSH', KEYS[7], entry)
  else
    redis.call('ZADD', KEYS[8], seq - priority * 1099511627776, entry)
  end
  redis.call('HINCRBY', COUNTS, group .. ':r', 1)
  token = '1'
else
  local head = redis.call('ZRANGE', KEYS[9], 0, 0, 'WITHSCORES')
  redis.call('ZADD', KEYS[9], due, entry)
  redis.call('HINCRBY', COUNTS, group .. ':s', 1)
  if not head[2] or due < tonumber(head[2]) then token = string.format('%d', due) end
end
if token then
  local first = redis.call('LINDEX', KEYS[10], 0)
  if not first or (first ~= '1' and (token == '1' or tonumber(first) > due)) then
    redis.call('LPUSH', KEYS[10], token)
    redis.call('PEXPIRE', KEYS[10], 60000)
  end
end
if redis.call('EXISTS', WATCH) == 1 then
  local event = { group, key, string.format('%d', seq), isReady and 'Ready' or 'Scheduled', string.format('%d', now),
    isReady and '' or string.format('%d', due) }
  for i = 1, #event do event[i] = #event[i] .. ':' .. event[i] end
  redis.call('PUBLISH', ARGV[1], table.concat(event))
end
return { struct.pack('>BI4dd', 1, 1, seq, due) }
`
