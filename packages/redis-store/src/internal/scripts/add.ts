/**
 * Adds runs.
 *
 * KEYS: the prelude's, the groups of the additions, then `done:<key>` for each addition that redrives.
 * ARGV: the prelude's; number of kinds, and per kind: group, task, onExisting, priority, retention of successes, of failures;
 * number of additions, and per addition: key, payload, due (`at` and a time, or `in` and a delay), kind, trace, generation to
 * redrive (or nothing).
 * States: none, scheduled, ready, running (replaced) → scheduled, ready.
 * Reply: `taken` and the key that refuses it all; or one text: disposition, generation and due of each, then the reasons of
 * those struck.
 */
import { prelude } from "./prelude.ts"

export const add = `${prelude}
local kinds = {}
for i = 1, tonumber(arg()) do
  kinds[i] = { gid = arg(), task = arg(), onExisting = arg(), priority = tonumber(arg()), keepS = tonumber(arg()), keepF = tonumber(arg()) }
end
local n = tonumber(arg())
local first = at
local keys = {}
for i = 1, n do keys[i] = ARGV[first + (i - 1) * 6 + 1] end
load(keys)
local before = {}
for i = 1, n do
  local fails = kinds[tonumber(ARGV[first + (i - 1) * 6 + 4])].onExisting == 'fail'
  if fails and (cache[keys[i]] or before[keys[i]]) then return { 'taken', keys[i] } end
  before[keys[i]] = true
end
local answers, reasons = {}, {}
local redrives = 0
for i = 1, n do
  local key, payload, when, kind, trace, redrive = arg(), arg(), arg(), kinds[tonumber(arg())], arg(), arg()
  local known = cache[key]
  local due = tonumber(string.sub(when, 3))
  if string.sub(when, 1, 2) == 'in' then due = now + due end
  local taken
  if redrive == '' then
    taken = known and kind.onExisting ~= 'replace'
  else
    redrives = redrives + 1
    local done = redis.call('GET', KEYS[extra + redrives])
    taken = known or not done or string.match(done, '^%d+,(%d+)') ~= redrive
  end
  if taken then
    answers[i] = known and 'Existing,' .. str(known.generation) .. ',' .. str(known.due) or 'Existing,0,0'
  else
    local strike = struck(kind.task, payload)
    if strike then
      answers[i] = 'Struck,0,' .. str(due)
      reasons[#reasons + 1] = strike.reason
    else
      if known then take(known, key) end
      seq = seq + 1
      metaChanged = true
      local r = { state = 0, flags = 0, attempt = 0, lost = 0, priority = kind.priority, generation = seq, arrival = 0, due = due,
        token = 0, settled = 0, started = 0, lease = 0, keepS = kind.keepS, keepF = kind.keepF, gid = kind.gid, worker = '', payload = payload }
      if trace ~= '' or (known and hasNote(known)) then setNote(r, key, '', '', trace) end
      if known then publish(r, key, 'Replaced', due) end
      place(r, key, due, not known)
      answers[i] = (known and 'Replaced,' or 'Added,') .. str(r.generation) .. ',' .. str(due)
    end
  end
end
flush()
for i = 1, #order do wake(order[i]) end
return { table.concat(answers, ';'), unpack(reasons) }
`
