/**
 * What the scripts share: the clock of the server, records, counts, the order of ready runs, and events.
 *
 * A script works on a cache of records and writes what has changed at its end, in a few commands with many fields: commands
 * are what costs. In Lua, tables with fields and new strings are (`docs/performance.md`): what happens to every run unpacks
 * the few numbers that it needs, the rest decodes a record into a table.
 *
 * KEYS: meta, runs, notes, counts, strikes, pauses, watch, gates, held, looks, starts, ends, deadlines, waits; then six per
 * group:
 * ready, prio, due, lease, wake, failed; then `flow:<key>` of flows.
 * ARGV: channel of events, channel of cancels, number of groups, their ids, number of flows; then what the script asks for.
 *
 * A record is what its claim says of it (state, flags, attempt, lost claims, token, token of the latest settlement, start,
 * length of the worker's name), what its generation says (arrival, due, generation, priority, retentions, length of the
 * group's id), then group, gates if it has any (a length, a colon, and they), its part of a flow if it has one (`flows.ts`),
 * payload and worker. `records.ts` reads it. The flags are: 1, somebody cancelled it; 2, it has a note; 4, it has gates; 8, it
 * is a part of a flow.
 */
import { flows } from "./flows.ts"
import { gates } from "./gates.ts"

export const prelude = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local META, RUNS, NOTES, COUNTS, STRIKES, PAUSES, WATCH = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local GATES, HOLDS, LOOKS, STARTS, ENDS, DEADLINES, WAITS = KEYS[8], KEYS[9], KEYS[10], KEYS[11], KEYS[12], KEYS[13], KEYS[14]
local EVENTS, CANCELS = ARGV[1], ARGV[2]
local SCHEDULED, READY, RUNNING, COMPLETED, FAILED, CANCELLED, SKIPPED = 1, 2, 3, 4, 5, 6, 7
local GATHERING, LINED = 10, 11
local HOLDER, HOLDER_STATE = { [8] = 'c', [9] = 'r' }, { c = 8, r = 9 }
local EXIT, STRUCK, NONE, LIMITED = 1, 2, 3, 4
local CLAIM, HEAD, DONE = '>BBI4I4dddH', '>BBI4I4dddHddddddH', '>BBdddI4dHI4'
local pack, unpackFrom, sub = struct.pack, struct.unpack, string.sub

local groups, order = {}, {}
-- how many of the groups the caller serves: the first ones
local served = 0
local at = 3 + tonumber(ARGV[3])
for i = 1, tonumber(ARGV[3]) do
  local k = 14 + (i - 1) * 6
  local g = { id = ARGV[3 + i], n = i, ready = KEYS[k + 1], prio = KEYS[k + 2], due = KEYS[k + 3], lease = KEYS[k + 4],
    wake = KEYS[k + 5], failed = KEYS[k + 6], head = pack('>H', #ARGV[3 + i]) .. ARGV[3 + i], s = 0, r = 0, x = 0, h = 0, w = 0 }
  groups[g.id] = g
  order[i] = g
end
at = at + 1
local flowKeys = tonumber(ARGV[at])
local extra = 14 + #order * 6 + flowKeys
local function arg() at = at + 1; return ARGV[at] end

local meta = redis.call('HMGET', META, 'seq', 'token', 'held', 'deadlines')
local seq, token = tonumber(meta[1] or 0), tonumber(meta[2] or 0)
local firstSeq, firstToken = seq, token
-- whether somebody listens to all events, or waits at least for outcomes
local watched = redis.call('EXISTS', WATCH) == 1
local waited = watched or redis.call('EXISTS', WAITS) == 1

local function str(n) return string.format('%d', n) end
local function texts(...)
  local out = {}
  for i = 1, select('#', ...) do
    local s = select(i, ...)
    if type(s) == 'number' then s = str(s) end
    out[i] = #s .. ':' .. s
  end
  return table.concat(out)
end

-- The text number n of a row of texts; an empty one if the row is none.
local function textAt(row, n)
  local p = 1
  for i = 1, n do
    local colon = string.find(row, ':', p, true)
    local length = colon and tonumber(sub(row, p, colon - 1))
    if not length then return '' end
    if i == n then return sub(row, colon + 1, colon + length) end
    p = colon + length + 1
  end
end

-- What has to be named besides, and what adds to that.
local function wanting()
  local more, asked = { 'more' }, {}
  return more, function(known, name)
    if known[name] then return end
    local text = (known == groups and 'g' or 'f') .. name
    if asked[text] then return end
    asked[text] = true
    more[#more + 1] = text
  end
end

local function dueOf(text)
  local due = tonumber(sub(text, 3))
  if sub(text, 1, 2) == 'in' then due = now + due end
  return due
end

-- The gates in a record, after its group at p, and where they end.
local function gatesAt(v, p)
  local colon = string.find(v, ':', p, true)
  local stop = colon + tonumber(sub(v, p, colon - 1))
  return sub(v, colon + 1, stop), stop + 1
end

local ready, many, settle, flow, flowing
local function decode(v)
  local r = {}
  local wl, gl, p
  r.state, r.flags, r.attempt, r.lost, r.token, r.settled, r.started, wl, r.arrival, r.due, r.generation, r.priority, r.keepS,
    r.keepF, gl, p = unpackFrom(HEAD, v)
  r.gid = sub(v, p, p + gl - 1)
  p = p + gl
  if r.flags % 8 >= 4 then r.gates, p = gatesAt(v, p) end
  if r.flags >= 8 then r.part, p = flow().part(v, p) end
  r.payload = sub(v, p, -wl - 1)
  r.worker = sub(v, #v - wl + 1)
  return r
end
local function encode(r)
  local gates, part, flags = '', '', r.flags % 4
  if r.gates then gates, flags = #r.gates .. ':' .. r.gates, flags + 4 end
  if r.part then part, flags = flow().pack(r.part), flags + 8 end
  return pack(HEAD, r.state, flags, r.attempt, r.lost, r.token, r.settled, r.started, #r.worker, r.arrival, r.due,
    r.generation, r.priority, r.keepS, r.keepF, #r.gid) .. r.gid .. gates .. part .. r.payload .. r.worker
end

-- Whether a value is a record, and not what something else has written, or has cut short. One that is none is passed as if it
-- were not there, so that the others go on; readers show it.
local byte = string.byte
local function past(v, p)
  local colon = string.find(v, ':', p, true)
  local length = colon and tonumber(sub(v, p, colon - 1))
  return length and length >= 0 and colon + length + 1 or #v + 2
end
local function sound(v)
  if #v < 86 then return false end
  local state, flags = byte(v, 1, 2)
  if state < 1 or state > LINED then return false end
  if flags < 4 then return true end
  local p = 87 + unpackFrom('>H', v, 85)
  if flags % 8 >= 4 then p = past(v, p) end
  if flags < 8 then return p <= #v + 1 end
  if p + 3 > #v then return false end
  local length = unpackFrom('>I4', v, p)
  return length >= 46 and p + 3 + length <= #v and flow().glance(v, p).isSound
end

-- A retention that the server takes, whatever a record says.
local function lasting(keep) return keep > 0 and math.min(math.max(math.floor(keep), 1), 1e15) or 0 end

local cache, dirty, unsound = {}, {}, {}
local function load(keys)
  local missing, m = {}, 0
  for i = 1, #keys do
    if cache[keys[i]] == nil then m = m + 1; missing[m] = keys[i] end
  end
  for from = 1, m, 4000 do
    local values = redis.call('HMGET', RUNS, unpack(missing, from, math.min(from + 3999, m)))
    for i = 1, #values do
      local v = values[i]
      if v and not sound(v) then
        unsound[missing[from + i - 1]] = true
        v = false
      end
      cache[missing[from + i - 1]] = v
    end
  end
end
local function get(key) load({ key }); return cache[key] and decode(cache[key]) end
local function put(key, r) cache[key] = encode(r); dirty[key] = true end
local function remove(key) cache[key] = false; dirty[key] = true end

-- A list of what is to be written to a group.
local function list(g, name)
  local l = g[name]
  if not l then l = {}; g[name] = l end
  return l
end
local function push(g, name, value) local l = list(g, name); l[#l + 1] = value end

local function publish(gid, key, generation, tag, ...)
  if watched then redis.call('PUBLISH', EVENTS, texts(gid, key, generation, tag, now, ...)) end
end
local function finished(gid, key, generation, ...)
  if waited then redis.call('PUBLISH', EVENTS, texts(gid, key, generation, 'Finished', now, ...)) end
end

local notes, noted = {}, false
local function note(key)
  if notes[key] == nil then
    local v = redis.call('HGET', NOTES, key)
    notes[key] = v and { textAt(v, 1), textAt(v, 2), textAt(v, 3) } or { '', '', '' }
  end
  return notes[key]
end
local function setNote(r, key, failures, progress, trace)
  notes[key] = { failures, progress, trace, changed = true }
  noted = true
  local has = failures ~= '' or progress ~= '' or trace ~= ''
  r.flags = r.flags % 2 + (has and 2 or 0) + (r.gates and 4 or 0) + (r.part and 8 or 0)
end
local function dropNote(key) notes[key] = { '', '', '', changed = true }; noted = true end
local function hasNote(r) return r.flags % 4 >= 2 end
local function cancelling(r) return r.flags % 2 == 1 end

-- The index entry of a run: what orders it among equals, then its key.
local function entry(n, key) return pack('>d', n) .. key end

${gates}
-- Takes a run out of the index of its state. In the list of ready runs its entry stays, and is skipped by its arrival.
local function take(r, key)
  local g = groups[r.gid]
  if r.gates then gate().left(r.gates, r.state, r.gid, r.arrival, key) end
  if r.state == SCHEDULED then
    g.s = g.s - 1
    push(g, 'undues', entry(r.generation, key))
  elseif r.state == READY then
    g.r = g.r - 1
    push(g, 'unranked', entry(r.arrival, key))
  elseif r.state == RUNNING then
    g.x = g.x - 1
    push(g, 'unleases', key)
  elseif r.state == GATHERING then
    g.w = g.w - 1
  end
end

-- One that is given back keeps its place before later arrivals: the sorted set has room for it where a list has not.
-- One with gates may be held instead.
function ready(r, key, back, from)
  local g = groups[r.gid]
  if not back then seq = seq + 1; r.arrival = seq end
  if r.gates and gate().holds(r, key, from) then return end
  r.state = READY
  g.r = g.r + 1
  if r.priority ~= 0 or back then
    push(g, 'ranked', r.arrival - r.priority * 1099511627776)
    push(g, 'ranked', entry(r.arrival, key))
  else
    push(g, 'back', entry(r.arrival, key))
  end
  g.awake = true
  put(key, r)
  publish(r.gid, key, r.generation, 'Ready')
end

local function schedule(g, key, generation, due)
  g.s = g.s + 1
  push(g, 'dues', due)
  push(g, 'dues', entry(generation, key))
  if not g.earliest or due < g.earliest then g.earliest = due end
end

local function place(r, key, due, announce)
  r.due = due
  if due <= now then return ready(r, key, false) end
  r.state = SCHEDULED
  schedule(groups[r.gid], key, r.generation, due)
  put(key, r)
  if announce then publish(r.gid, key, r.generation, 'Scheduled', due) end
end

function many(command, key, all)
  for from = 1, #all, 4000 do redis.call(command, key, unpack(all, from, math.min(from + 3999, #all))) end
end

-- Writes the indexes, so that what comes next in the script sees them.
local function flushIndexes()
  for i = 1, #order do
    local g = order[i]
    if g.undues then many('ZREM', g.due, g.undues); g.undues = nil end
    if g.unranked then many('ZREM', g.prio, g.unranked); g.unranked = nil end
    if g.unleases then many('ZREM', g.lease, g.unleases); g.unleases = nil end
    if g.back then many('RPUSH', g.ready, g.back); g.back = nil end
    if g.ranked then many('ZADD', g.prio, g.ranked); g.ranked = nil end
    if g.leases then many('ZADD', g.lease, g.leases); g.leases = nil end
    if g.dues then
      local head = redis.call('ZRANGE', g.due, 0, 0, 'WITHSCORES')
      if not head[2] or g.earliest < tonumber(head[2]) then g.sooner = g.earliest end
      many('ZADD', g.due, g.dues)
      g.dues, g.earliest = nil, nil
    end
  end
end

-- One token for one idle worker: '1' says that there is work, a time that there will be some earlier than anybody knew.
local function wake(g)
  if not g.awake and not g.sooner then return end
  local first = redis.call('LINDEX', g.wake, 0)
  if not first or (first ~= '1' and (g.awake or tonumber(first) > g.sooner)) then
    redis.call('LPUSH', g.wake, g.awake and '1' or str(g.sooner))
    redis.call('PEXPIRE', g.wake, 60000)
  end
end

local function flushNotes()
  local sets, dels = {}, {}
  for key, n in pairs(notes) do
    if n.changed then
      if n[1] == '' and n[2] == '' and n[3] == '' then
        dels[#dels + 1] = key
      else
        sets[#sets + 1] = key
        sets[#sets + 1] = texts(n[1], n[2], n[3])
      end
    end
  end
  if #sets > 0 then many('HSET', NOTES, sets) end
  if #dels > 0 then many('HDEL', NOTES, dels) end
end

local function flush()
  if flowing then flowing.flush() end
  if gating then gating.flush() end
  flushIndexes()
  local sets, dels, s, d = {}, {}, 0, 0
  for key in pairs(dirty) do
    local v = cache[key]
    if v then sets[s + 1] = key; s = s + 2; sets[s] = v else d = d + 1; dels[d] = key end
  end
  if s > 0 then many('HSET', RUNS, sets) end
  if d > 0 then many('HDEL', RUNS, dels) end
  if noted then flushNotes() end
  local held = 0
  for i = 1, #order do
    local g = order[i]
    -- what is left in an index of none are entries of runs that have been cancelled or replaced
    if g.s ~= 0 and redis.call('HINCRBY', COUNTS, g.id .. ':s', g.s) == 0 then redis.call('DEL', g.due) end
    if g.r ~= 0 and redis.call('HINCRBY', COUNTS, g.id .. ':r', g.r) == 0 then redis.call('DEL', g.ready, g.prio) end
    if g.h + g.w ~= 0 then redis.call('HINCRBY', COUNTS, g.id .. ':h', g.h + g.w) end
    held = held + g.h
    if g.x ~= 0 and redis.call('HINCRBY', COUNTS, g.id .. ':x', g.x) == 0 then redis.call('DEL', g.lease) end
  end
  if held ~= 0 then redis.call('HINCRBY', META, 'held', held) end
  if seq ~= firstSeq then redis.call('HSET', META, 'seq', seq) end
  if token ~= firstToken then redis.call('HSET', META, 'token', token) end
end

-- The outcome of a run in one piece: numbers and lengths, then what they measure. It begins with the state. One that was
-- struck has who struck it where one that failed has its payload. Before that, one of a flow has what its part was.
local function outcomeOf(r, state, tag, text, payload)
  if r.part then tag, payload = tag + 16, flow().kept(r) .. payload end
  return pack(DONE, state, tag, r.settled, r.generation, now, r.attempt, r.due, #r.gid, #text) .. r.gid .. text .. payload
end

local tags = { [EXIT] = 'Exit', [STRUCK] = 'Struck', [NONE] = 'Cancelled', [LIMITED] = 'Limited' }

-- Settles a run: its record goes, its outcome stays for its retention.
function settle(r, key, done, state, tag, text, author)
  local part = r.part
  if part then flow().ending(r, key) end
  take(r, key)
  remove(key)
  if hasNote(r) then dropNote(key) end
  local keep = lasting(state == FAILED and r.keepF or r.keepS)
  if keep > 0 then
    redis.call('SET', done, outcomeOf(r, state, tag, text, state == FAILED and r.payload or author or ''), 'PX', keep)
    local g = groups[r.gid]
    if state == FAILED then
      redis.call('ZADD', g.failed, now, key)
      if redis.call('PTTL', g.failed) < keep then redis.call('PEXPIRE', g.failed, keep) end
    end
  else
    redis.call('DEL', done)
  end
  -- nobody has a handle of a member of a gather: it has told its flow
  if watched or not part or part.key == '' then
    finished(r.gid, key, r.generation, tags[tag], text, author or '')
  end
  if part then flowing.ended(r, key, keep, tag ~= EXIT and 'C' or state == COMPLETED and 'D' or 'F', text) end
end

${flows}`

/** What finds the strike that stops a payload: `struck(task, payload)`, or nothing where there are no strikes. */
export const strikes = `
local struck
if redis.call('EXISTS', STRIKES) == 1 then
  local function same(a, b)
    if type(a) == 'table' and type(b) == 'table' then return cjson.encode(a) == cjson.encode(b) end
    return a == b
  end
  -- Bigints are decimal text: first their signs, then their lengths, then their digits.
  local function lessBig(a, b)
    local na, nb = sub(a, 1, 1) == '-', sub(b, 1, 1) == '-'
    if na ~= nb then return na end
    if #a ~= #b then return (#a < #b) ~= na end
    return (a < b) ~= (na and a ~= b) and a ~= b
  end
  local function integer(v) return type(v) == 'string' and string.match(v, '^%-?%d+$') ~= nil end
  -- The text of an older version of a task may be no integer.
  local function comparable(a, b, bigint)
    if bigint then return integer(a) and integer(b) end
    return type(a) == type(b)
  end
  local function less(a, b, bigint)
    if not comparable(a, b, bigint) then return false end
    if type(a) == 'number' then return a < b end
    if type(a) ~= 'string' then return false end
    if bigint then return lessBig(a, b) end
    return a < b
  end
  local function holds(c, value)
    local op, values = c.operator, c.values
    if op == 'equals' or op == 'oneOf' then
      for _, wanted in ipairs(values) do
        if same(value, wanted) then return true end
      end
      return false
    end
    if op == 'not' then return not same(value, values[1]) end
    if op == 'greaterThan' then return less(values[1], value, c.bigint) end
    if op == 'lessThan' then return less(value, values[1], c.bigint) end
    if not comparable(value, values[1], c.bigint) then return false end
    if op == 'greaterThanOrEqualTo' then return not less(value, values[1], c.bigint) end
    if op == 'lessThanOrEqualTo' then return not less(values[1], value, c.bigint) end
    return not less(value, values[1], c.bigint) and not less(values[2], value, c.bigint)
  end
  local all = redis.call('HVALS', STRIKES)
  for i = 1, #all do all[i] = cjson.decode(all[i]) end
  struck = function(task, payload)
    local fields
    for _, strike in ipairs(all) do
      if strike.task == task and (strike['until'] == cjson.null or strike['until'] == nil or strike['until'] > now) then
        local matches = true
        for _, condition in ipairs(strike.where) do
          if fields == nil then
            local ok, parsed = pcall(cjson.decode, payload)
            fields = ok and type(parsed) == 'table' and parsed or false
          end
          if not fields or not holds(condition, fields[condition.field]) then matches = false; break end
        end
        if matches then return strike end
      end
    end
  end
end
`
