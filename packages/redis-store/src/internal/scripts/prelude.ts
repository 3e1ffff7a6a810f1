/**
 * What the scripts share: the clock of the server, records, counts, the order of ready runs, and events.
 *
 * A script works on a cache of decoded records and writes what has changed at its end, in a few commands with many fields:
 * commands are what costs (`docs/performance.md`).
 *
 * KEYS: meta, runs, notes, counts, strikes, pauses, watch; then six per group: ready, prio, due, lease, wake, failed.
 * ARGV: channel of events, channel of cancels, number of groups, their ids; then what the script asks for.
 */
export const prelude = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local META, RUNS, NOTES, COUNTS, STRIKES, PAUSES, WATCH = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local EVENTS, CANCELS = ARGV[1], ARGV[2]
local SCHEDULED, READY, RUNNING = 1, 2, 3
local HEAD = '>BBI4I4i4dddddddddHH'

local groups, order = {}, {}
local at = 3 + tonumber(ARGV[3])
for i = 1, tonumber(ARGV[3]) do
  local k = 7 + (i - 1) * 6
  local id = ARGV[3 + i]
  local g = { id = id, ready = KEYS[k + 1], prio = KEYS[k + 2], due = KEYS[k + 3], lease = KEYS[k + 4], wake = KEYS[k + 5],
    failed = KEYS[k + 6], back = {}, ranked = {}, dues = {}, undues = {}, leases = {}, unleases = {} }
  groups[id] = g
  order[i] = g
end
local extra = 7 + #order * 6
local function arg() at = at + 1; return ARGV[at] end

local meta = redis.call('HMGET', META, 'seq', 'token')
local seq, token = tonumber(meta[1] or 0), tonumber(meta[2] or 0)
local metaChanged = false
local watched = redis.call('EXISTS', WATCH) == 1

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

-- The text number n of a row of texts.
local function textAt(row, n)
  local p = 1
  for i = 1, n do
    local colon = string.find(row, ':', p, true)
    local length = tonumber(string.sub(row, p, colon - 1))
    if i == n then return string.sub(row, colon + 1, colon + length) end
    p = colon + length + 1
  end
end

local function decode(v)
  local r = {}
  local gl, wl, p
  r.state, r.flags, r.attempt, r.lost, r.priority, r.generation, r.arrival, r.due, r.token, r.settled, r.started, r.lease,
    r.keepS, r.keepF, gl, wl, p = struct.unpack(HEAD, v)
  r.gid = string.sub(v, p, p + gl - 1)
  r.worker = string.sub(v, p + gl, p + gl + wl - 1)
  r.payload = string.sub(v, p + gl + wl)
  return r
end
local function encode(r)
  return struct.pack(HEAD, r.state, r.flags, r.attempt, r.lost, r.priority, r.generation, r.arrival, r.due, r.token, r.settled,
    r.started, r.lease, r.keepS, r.keepF, #r.gid, #r.worker) .. r.gid .. r.worker .. r.payload
end

local cache, dirty = {}, {}
local function load(keys)
  local missing = {}
  for i = 1, #keys do
    if cache[keys[i]] == nil then missing[#missing + 1] = keys[i] end
  end
  for from = 1, #missing, 4000 do
    local to = math.min(from + 3999, #missing)
    local values = redis.call('HMGET', RUNS, unpack(missing, from, to))
    for i = from, to do
      local v = values[i - from + 1]
      cache[missing[i]] = v and decode(v) or false
    end
  end
end
local function get(key) load({ key }); return cache[key] end
local function put(key, r) cache[key] = r; dirty[key] = true end

local counts = {}
local function count(gid, what, n) local f = gid .. ':' .. what; counts[f] = (counts[f] or 0) + n end

local function publish(r, key, tag, ...)
  if watched then redis.call('PUBLISH', EVENTS, texts(r.gid, key, r.generation, tag, now, ...)) end
end

local notes = {}
local function note(key)
  if notes[key] == nil then
    local v = redis.call('HGET', NOTES, key)
    notes[key] = v and { textAt(v, 1), textAt(v, 2), textAt(v, 3) } or { '', '', '' }
  end
  return notes[key]
end
local function setNote(r, key, failures, progress, trace)
  notes[key] = { failures, progress, trace, changed = true }
  if failures == '' and progress == '' and trace == '' then
    if r.flags % 4 >= 2 then r.flags = r.flags - 2 end
  elseif r.flags % 4 < 2 then
    r.flags = r.flags + 2
  end
end
local function hasNote(r) return r.flags % 4 >= 2 end
local function cancelling(r) return r.flags % 2 == 1 end

-- Takes a run out of the index of its state. Of a group that was not named it stays, and is skipped later.
local function take(r, key)
  local g = groups[r.gid]
  if r.state == SCHEDULED then
    count(r.gid, 's', -1)
    if g then g.undues[#g.undues + 1] = key end
  elseif r.state == READY then
    count(r.gid, 'r', -1)
  else
    count(r.gid, 'x', -1)
    if g then g.unleases[#g.unleases + 1] = key end
  end
end

-- One that is given back keeps its place before later arrivals: the sorted set has room for it where a list has not.
local function ready(r, key, back)
  local g = groups[r.gid]
  r.state = READY
  count(r.gid, 'r', 1)
  metaChanged = true
  if not back then seq = seq + 1; r.arrival = seq end
  local member = str(r.arrival) .. ':' .. key
  if r.priority ~= 0 or back then
    g.ranked[#g.ranked + 1] = str(r.arrival - r.priority * 1099511627776)
    g.ranked[#g.ranked + 1] = member
  else
    g.back[#g.back + 1] = member
  end
  g.awake = true
  put(key, r)
  publish(r, key, 'Ready')
end

local function place(r, key, due, announce)
  r.due = due
  if due <= now then return ready(r, key, false) end
  local g = groups[r.gid]
  r.state = SCHEDULED
  count(r.gid, 's', 1)
  g.dues[#g.dues + 1] = str(due)
  g.dues[#g.dues + 1] = key
  if not g.earliest or due < g.earliest then g.earliest = due end
  put(key, r)
  if announce then publish(r, key, 'Scheduled', due) end
end

local function many(command, key, list)
  for from = 1, #list, 4000 do redis.call(command, key, unpack(list, from, math.min(from + 3999, #list))) end
end

-- Writes the indexes, so that what comes next in the script sees them.
local function flushIndexes()
  for i = 1, #order do
    local g = order[i]
    if #g.undues > 0 then many('ZREM', g.due, g.undues); g.undues = {} end
    if #g.unleases > 0 then many('ZREM', g.lease, g.unleases); g.unleases = {} end
    if #g.back > 0 then many('RPUSH', g.ready, g.back); g.back = {} end
    if #g.ranked > 0 then many('ZADD', g.prio, g.ranked); g.ranked = {} end
    if #g.leases > 0 then many('ZADD', g.lease, g.leases); g.leases = {} end
    if #g.dues > 0 then
      local head = redis.call('ZRANGE', g.due, 0, 0, 'WITHSCORES')
      if not head[2] or g.earliest < tonumber(head[2]) then g.sooner = g.earliest end
      many('ZADD', g.due, g.dues)
      g.dues, g.earliest = {}, nil
    end
  end
end

-- One token for one idle worker: '1' says that there is work, a time that there will be some earlier than anybody knew.
local function wake(g)
  if not g.awake and not g.sooner then return end
  local token = g.awake and '1' or str(g.sooner)
  local first = redis.call('LINDEX', g.wake, 0)
  if not first or (first ~= '1' and (g.awake or tonumber(first) > g.sooner)) then
    redis.call('LPUSH', g.wake, token)
    redis.call('PEXPIRE', g.wake, 60000)
  end
end

local function flush()
  flushIndexes()
  local sets, dels = {}, {}
  for key in pairs(dirty) do
    local r = cache[key]
    if r then sets[#sets + 1] = key; sets[#sets + 1] = encode(r) else dels[#dels + 1] = key end
  end
  if #sets > 0 then many('HSET', RUNS, sets) end
  if #dels > 0 then many('HDEL', RUNS, dels) end
  local noted, unnoted = {}, {}
  for key, n in pairs(notes) do
    if n.changed then
      if n[1] == '' and n[2] == '' and n[3] == '' then
        unnoted[#unnoted + 1] = key
      else
        noted[#noted + 1] = key
        noted[#noted + 1] = texts(n[1], n[2], n[3])
      end
    end
  end
  if #noted > 0 then many('HSET', NOTES, noted) end
  if #unnoted > 0 then many('HDEL', NOTES, unnoted) end
  for field, n in pairs(counts) do
    if n ~= 0 then redis.call('HINCRBY', COUNTS, field, n) end
  end
  if metaChanged then redis.call('HSET', META, 'seq', str(seq), 'token', str(token)) end
end

local function same(a, b)
  if type(a) == 'table' and type(b) == 'table' then return cjson.encode(a) == cjson.encode(b) end
  return a == b
end
-- Bigints are decimal text: first their signs, then their lengths, then their digits.
local function lessBig(a, b)
  local na, nb = string.sub(a, 1, 1) == '-', string.sub(b, 1, 1) == '-'
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
  return comparable(value, values[1], c.bigint) and not less(value, values[1], c.bigint) and not less(values[2], value, c.bigint)
end

local strikes
local function struck(task, payload)
  if strikes == nil then
    strikes = false
    if redis.call('EXISTS', STRIKES) == 1 then
      strikes = {}
      for _, text in ipairs(redis.call('HVALS', STRIKES)) do strikes[#strikes + 1] = cjson.decode(text) end
    end
  end
  if not strikes then return nil end
  local fields
  for _, strike in ipairs(strikes) do
    if strike.task == task and (strike['until'] == cjson.null or strike['until'] == nil or strike['until'] > now) then
      local all = true
      for _, condition in ipairs(strike.where) do
        if fields == nil then
          local ok, parsed = pcall(cjson.decode, payload)
          fields = ok and type(parsed) == 'table' and parsed or false
        end
        if not fields or not holds(condition, fields[condition.field]) then all = false; break end
      end
      if all then return strike end
    end
  end
  return nil
end

-- The outcome of a run in one piece: numbers, names and lengths first, then what they measure.
local function outcomeOf(r, state, tag, text, payload)
  return string.format('%d,%d,%d,%d,%d,%s,%s,%d,%d;', r.settled, r.generation, now, r.attempt, r.due, state, tag, #r.gid, #text) ..
    r.gid .. text .. payload
end

-- Settles a run: its record goes, its outcome stays for its retention.
local function settle(r, key, done, state, tag, text)
  take(r, key)
  cache[key] = false
  dirty[key] = true
  if hasNote(r) then notes[key] = { '', '', '', changed = true } end
  local keep = state == 'Failed' and r.keepF or r.keepS
  if keep > 0 then
    redis.call('SET', done, outcomeOf(r, state, tag, text, state == 'Failed' and r.payload or ''),
      'PX', str(keep))
    local g = groups[r.gid]
    if state == 'Failed' and g then
      redis.call('ZADD', g.failed, str(now), key)
      if redis.call('PTTL', g.failed) < keep then redis.call('PEXPIRE', g.failed, str(keep)) end
    end
  else
    redis.call('DEL', done)
  end
  publish(r, key, 'Finished', tag, text)
end
`
