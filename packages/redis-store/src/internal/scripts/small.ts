/**
 * The small scripts: each one atomic answer to one request.
 */
import { prelude, strikes } from "./prelude.ts"

/**
 * Cancels a run.
 *
 * KEYS: the prelude's, the group of the run and those that its flow concerns, the flows, `done:<key>`. ARGV: the prelude's;
 * key, key of its parent (or nothing: whosever it is) and generation of that.
 * States: scheduled, ready, held → cancelled, or of a flow ready; running: asked to stop.
 * Reply: 1 cancelled or asked, or it is ending already, 0 nothing to cancel; or `more` and what was not named.
 */
export const cancel = `${prelude}
local key, parent, generation = arg(), arg(), tonumber(arg())
local r = get(key)
if not r then return 0 end
if parent ~= '' and not (r.part and r.part.key == parent and r.part.generation == generation) then return 0 end
local more, want = wanting()
want(groups, r.gid)
if r.part then flow().wants(r.part, key, want) end
if #more > 1 then return more end
local onCancel = r.part and flowing.onCancel(r)
if onCancel == 'ignore' then return 1 end
if r.state == RUNNING then
  if not cancelling(r) then
    r.flags = r.flags + 1
    put(key, r)
    flush()
  end
  redis.call('PUBLISH', CANCELS, str(r.token))
  return 1
end
if onCancel == 'interpret' then
  flowing.abort(r, key)
else
  settle(r, key, KEYS[extra + 1], CANCELLED, NONE, '')
end
flush()
for i = 1, #order do wake(order[i]) end
return 1
`

/**
 * Extends claims.
 *
 * KEYS: the prelude's, the groups of the claims, `done:<key>` of each claim. ARGV: the prelude's; lease, number of claims,
 * and per claim: key, generation, token. Reply: a letter per claim: Extended, Cancelled, Lost, Replaced.
 */
export const renew = `${prelude}
local lease, n = tonumber(arg()), tonumber(arg())
local keys, fences = {}, {}
for i = 1, n do
  keys[i] = arg()
  fences[i] = { tonumber(arg()), tonumber(arg()) }
end
load(keys)
local answers = {}
-- One that has ended was settled by another claim, or a later generation was; of what was cleared nothing is known.
local function isCurrent(done, generation)
  local outcome = redis.call('GET', done)
  if not outcome then return false end
  local _, _, _, latest = unpackFrom('>BBdd', outcome)
  return latest == generation
end
for i = 1, n do
  local key, generation, held = keys[i], fences[i][1], fences[i][2]
  local r = cache[key] and decode(cache[key])
  if not r then
    answers[i] = isCurrent(KEYS[extra + i], generation) and 'L' or 'R'
    if answers[i] == 'R' then gate().extend(held, now + lease) end
  elseif r.generation > generation then
    answers[i] = 'R'
    gate().extend(held, now + lease)
  elseif r.generation ~= generation or r.state ~= RUNNING or r.token ~= held then
    answers[i] = 'L'
  else
    local g = groups[r.gid]
    push(g, 'leases', now + lease)
    push(g, 'leases', key)
    answers[i] = cancelling(r) and 'C' or 'E'
  end
end
flush()
return table.concat(answers)
`

/**
 * Stores and publishes progress of a running run.
 *
 * KEYS: the prelude's. ARGV: the prelude's; key, generation, token, progress. Reply: 1, or 0 if the token is not current.
 */
export const progress = `${prelude}
local key, generation, held, value = arg(), tonumber(arg()), tonumber(arg()), arg()
local r = get(key)
if not r or r.state ~= RUNNING or r.generation ~= generation or r.token ~= held then return 0 end
local old = note(key)
setNote(r, key, old[1], value, old[3])
put(key, r)
publish(r.gid, key, r.generation, 'Progress', value)
flush()
return 1
`

/**
 * Removes pending runs of a group, a batch of them.
 *
 * KEYS: the prelude's, the group, flows of those that are removed. ARGV: the prelude's; most runs of each kind, and keys of held
 * runs. States: scheduled, ready, held → none.
 * Reply: `more` and what was not named; or whether there may be more; then key and generation of each that was removed.
 */
export const clear = `${prelude}
local most = tonumber(arg())
local g = order[1]
local keys, removed = {}, {}
local dues, members, ranked = {}, {}, {}
if most > 0 then
  dues = redis.call('ZRANGE', g.due, 0, most - 1)
  members = redis.call('LRANGE', g.ready, 0, most - 1)
  ranked = redis.call('ZRANGE', g.prio, 0, most - 1)
end
for _, all in ipairs({ dues, members, ranked }) do
  for _, m in ipairs(all) do keys[#keys + 1] = sub(m, 9) end
end
-- those that are held are named
for i = at + 1, #ARGV do keys[#keys + 1] = ARGV[i] end
load(keys)
-- a flow that others report to is gone as well, unless it is running
local more, want = wanting()
for _, key in ipairs(keys) do
  local r = cache[key] and decode(cache[key])
  if r and r.part and r.gid == g.id and r.state ~= RUNNING then flow().wantsCleared(r, key, want) end
end
if #more > 1 then return more end
for _, key in ipairs(keys) do
  local r = cache[key] and decode(cache[key])
  if r and r.gid == g.id and r.state ~= RUNNING then
    if r.gates then gate().left(r.gates, r.state, r.gid, r.arrival, key) end
    if r.state == READY then g.r = g.r - 1
    elseif r.state == SCHEDULED then g.s = g.s - 1
    elseif r.state == GATHERING then g.w = g.w - 1 end
    if hasNote(r) then dropNote(key) end
    remove(key)
    removed[#removed + 1] = key
    removed[#removed + 1] = str(r.generation)
    if r.part then flowing.cleared(r, key) end
    finished(r.gid, key, r.generation, 'Gone', '')
  end
end
many('ZREM', g.due, dues)
if #members > 0 then redis.call('LTRIM', g.ready, #members, -1) end
many('ZREM', g.prio, ranked)
flush()
return { most > 0 and (#dues == most or #members == most or #ranked == most) and 1 or 0, unpack(removed) }
`

/**
 * Forgets the outcomes that came before the runs that were removed: nothing is known of a key that was cleared.
 *
 * KEYS: `done:<key>` of each. ARGV: their generations.
 */
export const forget = `
for i = 1, #KEYS do
  local done = redis.call('GET', KEYS[i])
  if done then
    local _, _, _, generation = struct.unpack('>BBdd', done)
    if generation < tonumber(ARGV[i]) then redis.call('DEL', KEYS[i]) end
  end
end
`

/**
 * How members of a gather have ended.
 *
 * KEYS: runs, `done:<key>` and `flow:<key>` of the flow. ARGV: key, gather, first index, how many.
 * Reply: per index a letter and a text, or nothing.
 */
export const members = `
local run = redis.call('HGET', KEYS[1], ARGV[1])
local generation, _
if run then
  _, _, _, _, _, _, _, _, _, _, generation = struct.unpack('>BBI4I4dddHddd', run)
else
  local done = redis.call('GET', KEYS[2])
  if not done then return {} end
  _, _, _, generation = struct.unpack('>BBdd', done)
end
local of = redis.call('HMGET', KEYS[3], 'of', 'g' .. ARGV[2])
if of[1] ~= string.format('%d', generation) or not of[2] then return {} end
local fields = {}
local first = string.format('%d', struct.unpack('>d', of[2])) .. '/'
for i = 1, tonumber(ARGV[4]) do fields[i] = first .. string.format('%d', tonumber(ARGV[3]) + i - 1) end
return redis.call('HMGET', KEYS[3], unpack(fields))
`

/**
 * The strike that stops a payload of a task now.
 *
 * KEYS: the prelude's. ARGV: the prelude's; task, payload. Reply: nothing; or its reason, its author (or nothing), and
 * when it ends (or nothing).
 */
export const strikeOf = `${prelude}${strikes}
local task, payload = arg(), arg()
local strike = struck and struck(task, payload)
if not strike then return {} end
local ends = strike['until']
return { strike.reason, strike.author or '', type(ends) == 'number' and str(ends) or '' }
`
