/**
 * Adds runs.
 *
 * KEYS: the prelude's, the groups of the additions, then `done:<key>` for each addition that redrives.
 * ARGV: the prelude's; number of kinds, and per kind: group, task, onExisting, priority, retention of successes, of failures;
 * number of rows of additions that differ in key and payload only, and per row: how many, kind, due (`at` and a time, or
 * `in` and a delay), trace, generation to redrive (or nothing); then key and payload of each addition.
 * States: none, scheduled, ready, running (replaced) → scheduled, ready.
 * Reply: `taken` and the key that refuses it all; `elsewhere` and the group of a run that is to be replaced, which was not
 * named; or one text with disposition, generation and due of each, then the reasons of those struck.
 */
import { prelude, strikes } from "./prelude.ts"

export const add = `${prelude}${strikes}
local kinds = {}
local wary = false
for i = 1, tonumber(arg()) do
  local k = { gid = arg(), task = arg(), onExisting = arg(), priority = tonumber(arg()), keepS = tonumber(arg()), keepF = tonumber(arg()) }
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

local ADDED, EXISTING, REPLACED, HELD = 1, 2, 3, 4
local answers, reasons = {}, {}
local i, redrives = 0, 0
local function answer(disposition, generation, due) answers[i] = pack('>Bdd', disposition, generation, due) end

local function addOne(row, key, payload)
  local kind, due = row.kind, row.due
  local known = cache[key] and decode(cache[key])
  local taken
  if row.redrive == '' then
    taken = known and kind.onExisting ~= 'replace'
  else
    redrives = redrives + 1
    local done = redis.call('GET', KEYS[extra + redrives])
    taken = known or not done
    if not taken then
      local _, _, _, generation = unpackFrom('>BBdd', done)
      taken = generation ~= tonumber(row.redrive)
    end
  end
  if taken then return answer(EXISTING, known and known.generation or 0, known and known.due or 0) end
  local strike = struck and struck(kind.task, payload)
  if strike then
    reasons[#reasons + 1] = strike.reason
    return answer(HELD, 0, due)
  end
  if known then take(known, key) end
  seq = seq + 1
  local r = { state = 0, flags = 0, attempt = 0, lost = 0, priority = kind.priority, generation = seq, arrival = 0, due = due,
    token = 0, settled = 0, started = 0, keepS = kind.keepS, keepF = kind.keepF, gid = kind.gid, worker = '', payload = payload }
  if row.trace ~= '' or (known and hasNote(known)) then setNote(r, key, '', '', row.trace) end
  if known then publish(r.gid, key, r.generation, 'Replaced', due) end
  place(r, key, due, not known)
  answer(known and REPLACED or ADDED, r.generation, due)
end

for _, row in ipairs(rows) do
  local kind, due = row.kind, row.due
  local gid, priority, keepS, keepF = kind.gid, kind.priority, kind.keepS, kind.keepF
  local g = groups[gid]
  local plain = row.redrive == '' and row.trace == '' and not struck and not watched
  local state = due <= now and READY or SCHEDULED
  local back = plain and state == READY and priority == 0 and list(g, 'back')
  for _ = 1, row.n do
    i = i + 1
    local key, payload = keys[i], ARGV[at + i * 2]
    if plain and not cache[key] then
      seq = seq + 1
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
      answers[i] = pack('>Bdd', ADDED, seq, due)
    else
      addOne(row, key, payload)
    end
  end
end
flush()
for i = 1, #order do wake(order[i]) end
return { table.concat(answers), unpack(reasons) }
`
