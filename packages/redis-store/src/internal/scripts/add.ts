/**
 * Adds runs.
 *
 * KEYS: the prelude's, the groups of the additions, the flows that they are members or redrives of, then `done:<key>` for
 * each addition that redrives.
 * ARGV: the prelude's; `write`, `whole` (nothing is written if a strike or a cooldown refuses one), or `ask` (nothing is
 * written, and all that would be refused are named); then the additions, as `adding.ts` says.
 * States: none, scheduled, ready, held, running (replaced) → scheduled, ready, held. An addition may join a pending run
 * instead, or be ignored.
 * Reply: `taken` and the key that refuses it all; `more` and what was not named; `refused`, then of each that is its number, the disposition, reason and author (or nothing); or one text, then
 * reason and author (or nothing) of those struck and the keys of those that were joined. The text has a disposition, how many
 * in a row it is true of, the generation of the first of them, those of the others following it one by one, and when they are
 * due.
 */
import { adding } from "./adding.ts"
import { prelude, strikes } from "./prelude.ts"

export const add = `${prelude}${strikes}${adding}
local mode = arg()
local additions = readAdditions()
local rows, keys, at = additions.rows, additions.keys, additions.at
load(keys)
local adding = adder()

-- as it decides on each: a key that is taken is not refused
if mode ~= 'write' then
  local before, refused, i = {}, { 'refused' }, 0
  for _, row in ipairs(rows) do
    for _ = 1, row.n do
      i = i + 1
      local key = keys[i]
      local gates, payload = unwrap(row.kind.flags, ARGV[at + i * 2])
      local isMember = row.part and row.part.key ~= ''
      if not isMember and (row.kind.onExisting == 'replace' or not (cache[key] or before[key])) then
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

if additions.wary then
  local before, i = {}, 0
  for _, row in ipairs(rows) do
    for _ = 1, row.n do
      i = i + 1
      local key = keys[i]
      if row.kind.onExisting == 'fail' and (cache[key] or before[key]) then return { 'taken', key } end
      before[key] = true
    end
  end
end
if additions.wary or additions.settles then
  local more, want = wanting()
  wantFor(additions, want)
  if #more > 1 then return more end
end

adding.all(additions)
flush()
for i = 1, #order do wake(order[i]) end
return { table.concat(adding.answers), unpack(adding.reasons) }
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
