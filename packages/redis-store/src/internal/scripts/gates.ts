/**
 * The gates of a docket in Redis: what runs with gates are charged for, and where they are held.
 *
 * It is made when a script meets the first run with gates: scripts that meet none pay for one function.
 *
 * A gate is the letter of its kind (`c`oncurrency, `r`ate limit, cooldown (`k`), `d`ebounce), the length of its text, and its
 * text.
 *
 * - The hash `gates` has, per gate, how many run; per gate and group, how many are ready: places that are as good as taken;
 *   per debounce, when the first addition came and the key of the run; and, per claim whose run has been replaced (`g` and its
 *   token), its group and the gate whose slot it has.
 * - The sorted set `held` has one score, so that its members are in the order of their bytes: gate, group, arrival (8 bytes),
 *   key. So the first that is held by a gate is found without looking at others. Runs that two gates can hold are in lines
 *   (`lines.ts`), which have an entry there.
 * - The sorted set `looks` has a gate and a group by when somebody of the group has to look whether there is room: where a
 *   script had to leave that to another, and when a window has moved on; and claims whose run has been replaced, by the end of
 *   their lease.
 * - `starts` has, per gate, the times of starts, `ends` the gates by when nothing of them is left to know.
 *
 * A run that becomes ready is held if the gate lets no more through, or holds somebody who came before. A script that knows
 * the limit of a group (the turn of a worker that serves it) makes as many ready as there is room for; others make one ready
 * for each that has left.
 */
import { most } from "./bounds.ts"
import { lines } from "./lines.ts"

/**
 * Takes down the limits of groups as a worker that was attached declares them, and has somebody look at what is held where
 * they have changed: nothing need happen there.
 *
 * KEYS: meta, held, looks. ARGV: what the members of `held` begin with to go on after (or nothing); then group and limits of
 * each. Reply: what to go on after, or nothing.
 */
export const limit = `
local changed, any = {}, false
for i = 2, #ARGV, 2 do
  local field = 'limits:' .. ARGV[i]
  local before = redis.call('HGET', KEYS[1], field)
  -- the first page takes them down, the others are asked because they have changed
  if ARGV[1] ~= '' or (before or '') ~= ARGV[i + 1] then
    changed[ARGV[i]] = true
    any = any or before or ARGV[1] ~= ''
    redis.call('HSET', KEYS[1], field, ARGV[i + 1])
  end
end
if not any then return '' end
local time = redis.call('TIME')
local now = string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000))
local after = ARGV[1]
for _ = 1, ${most} do
  -- what is in lines has an entry at a gate
  local from = after == '' and '(+\\255' or '(' .. after .. '\\255'
  local member = redis.call('ZRANGE', KEYS[2], from, '+', 'BYLEX', 'LIMIT', 0, 1)[1]
  if not member then return '' end
  -- the letter of the gate, the length of its text, its text, its group
  local colon = string.find(member, ':', 1, true)
  local stop = colon + tonumber(string.sub(member, 2, colon - 1))
  local newline = string.find(member, '\\n', stop + 2, true)
  if changed[string.sub(member, stop + 2, newline - 1)] then
    redis.call('ZADD', KEYS[3], now, string.sub(member, 1, newline - 1))
  end
  after = string.sub(member, 1, newline)
end
return after
`

export const gates = `
local gating
local function gate()
  if gating then return gating end
  local counts, changed, parsed, parked, touched, queue = {}, {}, {}, {}, {}, {}
  local elsewhere, looks, lined, UNLIMITED, KINDS = {}, {}, {}, {}, { 'c', 'r' }
  local begun, windows, fresh, cooling, settling, settled = {}, {}, {}, {}, {}, {}
  local longest = 0
  local m = { limits = {}, elsewhere = elsewhere, budget = ${most} }
  gating = m

  -- The gates in the text that a record has: by their letters.
  local function split(text)
    local ids = parsed[text]
    if ids then return ids end
    ids = {}
    local p = 1
    while p <= #text do
      local colon = string.find(text, ':', p, true)
      local stop = colon + tonumber(sub(text, p + 1, colon - 1))
      ids[sub(text, p, p)] = sub(text, p, stop)
      p = stop + 1
    end
    parsed[text] = ids
    return ids
  end

  local function count(field)
    local n = counts[field]
    if not n then
      n = tonumber(redis.call('HGET', GATES, field) or 0)
      counts[field] = n
    end
    return n
  end
  local function add(field, n)
    counts[field] = count(field) + n
    changed[field] = true
  end

  -- What the members of a gate and a group begin with.
  local function prefix(id, gid) return id .. '\\n' .. gid .. '\\n' end
  local writeLines
  local function writeHeld()
    for _, p in ipairs(parked) do redis.call('ZADD', HOLDS, unpack(p)) end
    parked = {}
    writeLines()
  end
  local function firstHeld(p, n)
    writeHeld()
    return redis.call('ZRANGE', HOLDS, '[' .. p, '(' .. p .. '\\255', 'BYLEX', 'LIMIT', 0, n)
  end
  -- When the first that is held there came, if there is one: asked for each run that becomes ready, and true until somebody is
  -- let through.
  local crowded = {}
  local function isCrowded(p)
    if crowded[p] == nil then
      local first = firstHeld(p, 1)[1]
      crowded[p] = first and unpackFrom('>d', first, #p + 1) or false
    end
    return crowded[p]
  end
  local function isBehind(p, arrival) return isCrowded(p) and isCrowded(p) < arrival end

  local function touch(id, n)
    if not touched[id] then
      touched[id] = 0
      queue[#queue + 1] = id
    end
    touched[id] = touched[id] + n
  end

  -- Where the starts of a gate are, from a time on: members are the gate, the time (8 bytes) and the token (8 bytes).
  local function since(id, time) return '(' .. id .. pack('>d', time) .. '\\255', '(' .. id .. '\\255' end
  local function writeStarts()
    if #fresh > 0 then many('ZADD', STARTS, fresh); fresh = {} end
  end
  local function inWindow(id, window)
    local n = begun[id]
    if not n then
      writeStarts()
      local from, to = since(id, now - window)
      n = redis.call('ZLEXCOUNT', STARTS, from, to)
      begun[id] = n
    end
    return n
  end
  local function start(id, window)
    begun[id] = inWindow(id, window) + 1
    fresh[#fresh + 1] = 0
    fresh[#fresh + 1] = id .. pack('>d', now) .. pack('>d', token + 1)
    windows[id] = window
    longest = math.max(longest, window)
  end
  -- When the gate has a place again.
  local function nextPlace(id, window)
    writeStarts()
    local from, to = since(id, now - window)
    local first = redis.call('ZRANGE', STARTS, from, to, 'BYLEX', 'LIMIT', 0, 1)[1]
    return first and unpackFrom('>d', first, #id + 1) + window or now
  end
  -- Forgets starts that are out of the window, some.
  local function forget(id, before, n)
    local old = redis.call('ZRANGE', STARTS, '[' .. id, before, 'BYLEX', 'LIMIT', 0, n)
    if #old > 0 then many('ZREM', STARTS, old) end
    return #old
  end

  -- The limits of a group that the caller serves. Where it declares none, there are none.
  local function limitsOf(gid) return m.limits[gid] or (groups[gid].n <= served and UNLIMITED) end
  -- How many more may be ready; nothing is known of the groups of others.
  local function room(id, gid)
    local limits = limitsOf(gid)
    if not limits then return nil end
    local kind = sub(id, 1, 1)
    local most = limits[kind]
    if not most or (kind == 'r' and limits.drops) then return math.huge end
    local taken = kind == 'c' and count(id) or inWindow(id, limits.window)
    return most - taken - count(id .. '\\n' .. gid)
  end

  -- The same, and where the limit is not known, as many as a turn would look at.
  local function space(id, gid) return room(id, gid) or ${most} - count(id .. '\\n' .. gid) end
${lines}
  local function hold(r, key, id)
    local ids = split(r.gates)
    local line = lineOf(ids, r.gid)
    local p = line or prefix(id, r.gid)
    local page = parked[#parked]
    if not page or #page > 2000 then page = {}; parked[#parked + 1] = page end
    page[#page + 1] = 0
    page[#page + 1] = p .. pack('>d', r.arrival) .. key
    if line then
      lineUp(line, r.gid, r.arrival, id)
    elseif crowded[p] ~= nil then
      crowded[p] = math.min(crowded[p] or r.arrival, r.arrival)
    end
    r.state = line and LINED or HOLDER_STATE[sub(id, 1, 1)]
    groups[r.gid].h = groups[r.gid].h + 1
    put(key, r)
    -- somebody has to say when it is looked at
    if r.state == 9 then touch(id, 0) end
  end

  -- A run that is due wants to be ready: whether it is held. It does not wait for those of the gate that it comes from. One
  -- that its worker gave back comes before those that have its place by now: it is ready besides them.
  function m.holds(r, key, from)
    local ids = split(r.gates)
    for _, kind in ipairs(KINDS) do
      local id = ids[kind]
      if id then
        if (id ~= from and isBehind(prefix(id, r.gid), r.arrival)) or
          (from ~= 'worker' and space(id, r.gid) <= 0) then
          hold(r, key, id)
          return true
        end
      end
    end
    for _, kind in ipairs(KINDS) do
      if ids[kind] then add(ids[kind] .. '\\n' .. r.gid, 1) end
    end
    return false
  end

  -- The key of the pending run that an addition with these gates joins, and when the first of its additions came.
  local function pendingOf(id)
    local value = settling[id]
    if value == nil then
      value = redis.call('HGET', GATES, id)
      settling[id] = value
    end
    if not value then return nil end
    local colon = string.find(value, '[:!]')
    return sub(value, colon + 1), tonumber(sub(value, 1, colon - 1))
  end
  function m.pending(text)
    local id = split(text).d
    if id then return pendingOf(id) end
  end
  -- Whether it would be due if it were not debounced is what stands between.
  function m.settles(text, key, at, waits)
    local id = split(text).d
    settling[id] = str(at) .. (waits and '!' or ':') .. key
    settled[id] = true
  end
  -- A run has begun or is gone: the next addition is one of its own.
  local function notSettling(id, key)
    if pendingOf(id) == key then
      settling[id] = false
      settled[id] = true
    end
  end

  -- A running run is replaced: its claim keeps the slot until it is settled, or its lease is over.
  function m.replaced(r, key)
    local id = split(r.gates).c
    if not id then return end
    local field = 'g' .. str(r.token)
    settling[field] = r.gid .. '\\n' .. id
    settled[field] = true
    looks[field .. '\\n' .. r.gid] = tonumber(redis.call('ZSCORE', groups[r.gid].lease, key) or now)
    add(id, 1)
  end
  -- Its field, its group and the gate whose slot it has, if it has one.
  local function replacedBy(token)
    local field = 'g' .. str(token)
    local value = settling[field]
    if value == nil then value = redis.call('HGET', GATES, field) end
    if not value then return field end
    local newline = string.find(value, '\\n', 1, true)
    return field, sub(value, 1, newline - 1), sub(value, newline + 1)
  end
  -- Its lease is extended: its body still runs.
  function m.extend(token, till)
    local field, gid = replacedBy(token)
    if gid then looks[field .. '\\n' .. gid] = till end
  end
  -- The slot of a claim whose run has been replaced is free.
  function m.free(token)
    local field, gid, id = replacedBy(token)
    if not gid then return end
    settling[field] = false
    settled[field] = true
    looks[field .. '\\n' .. gid] = false
    add(id, -1)
    touch(id, 1)
  end

  function m.isCooling(text)
    local id = split(text).k
    local over = id and redis.call('ZSCORE', ENDS, id)
    return over and tonumber(over) > now
  end

  local function notReady(ids, gid)
    for _, kind in ipairs(KINDS) do
      local id = ids[kind]
      if id then
        add(id .. '\\n' .. gid, -1)
        touch(id, 1)
      end
    end
  end

  -- A run leaves its state.
  function m.left(text, state, gid, arrival, key)
    local ids = split(text)
    if ids.d and state ~= RUNNING then notSettling(ids.d, key) end
    if state == READY then
      notReady(ids, gid)
    elseif state == RUNNING then
      if ids.c then add(ids.c, -1); touch(ids.c, 1) end
    elseif state == LINED then
      leaveLine(lineOf(ids, gid), gid, arrival, key)
      groups[gid].h = groups[gid].h - 1
    elseif state ~= SCHEDULED then
      local id = ids[HOLDER[state]]
      local p = prefix(id, gid)
      writeHeld()
      redis.call('ZREM', HOLDS, p .. pack('>d', arrival) .. key)
      crowded[p] = nil
      -- there may be nobody left to look for
      local field = id .. '\\n' .. gid
      if not looks[field] then looks[field] = false end
      local g = groups[gid]
      g.h = g.h - 1
    end
  end

  -- A ready run is to be claimed: whether it is held instead, or dropped. What is claimed only to be settled is let through.
  function m.refuses(v, key, p, gid, only, first, arrival)
    local ids = split((gatesAt(v, p)))
    notReady(ids, gid)
    local c, r, limits, verdict = ids.c, ids.r, limitsOf(gid) or UNLIMITED, nil
    if not only then
      -- when it became ready, more were let through
      if c and limits.c and (count(c) >= limits.c or isBehind(prefix(c, gid), arrival)) then
        hold(decode(v), key, c)
        return 'held'
      end
      if r and limits.r then
        if inWindow(r, limits.window) < limits.r and (limits.drops or not isBehind(prefix(r, gid), arrival)) then
          start(r, limits.window)
        elseif limits.drops then
          verdict = 'dropped'
        else
          hold(decode(v), key, r)
          return 'held'
        end
      end
    end
    if c then add(c, 1) end
    if ids.d then notSettling(ids.d, key) end
    if ids.k and first and not only and not verdict and limits.cooldown then
      cooling[ids.k] = now + limits.cooldown
      longest = math.max(longest, limits.cooldown)
    end
    return verdict
  end

  -- Takes out who is held there, at most so many: how many steps that took, how many runs are ready now, and whether that was
  -- all. What comes before the first line goes at once.
  local function admit(id, gid, n)
    local p = prefix(id, gid)
    local members = firstHeld(p, lined[p] and math.min(n, 2) or n)
    local singles, line = {}, nil
    for i = 1, #members do
      if string.byte(members[i], #p + 9) == 255 then
        line = i
        break
      end
      singles[i] = members[i]
    end
    lined[p] = line == 1
    if line == 1 then
      local steps, made = advanceLine(getLine(sub(members[1], #p + 10), gid), n,
        members[2] and unpackFrom('>d', members[2], #p + 1) or math.huge)
      return steps, made, false
    end
    if #singles == 0 then return 0, 0, true end
    redis.call('ZREM', HOLDS, unpack(singles))
    crowded[p] = nil
    local keys = {}
    for i = 1, #singles do keys[i] = sub(singles[i], #p + 9) end
    load(keys)
    local made = 0
    for i = 1, #singles do
      local key = keys[i]
      local r = cache[key] and decode(cache[key])
      if r and HOLDER[r.state] and r.gid == gid and r.arrival == unpackFrom('>d', singles[i], #p + 1) then
        groups[gid].h = groups[gid].h - 1
        ready(r, key, true, id)
        if r.state == READY then made = made + 1 end
      end
    end
    return #singles, made, not line and #singles < n
  end

  -- Lets through who has room, of all groups that the gate holds runs of.
  local function open(id)
    local gone = touched[id]
    touched[id] = nil
    local from = '[' .. id .. '\\n'
    while true do
      writeHeld()
      local member = redis.call('ZRANGE', HOLDS, from, '(' .. id .. '\\n\\255', 'BYLEX', 'LIMIT', 0, 1)[1]
      if not member then return end
      local gid = sub(member, #id + 2, string.find(member, '\\n', #id + 2, true) - 1)
      local field = id .. '\\n' .. gid
      if not groups[gid] then
        elsewhere[gid] = true
        looks[field] = now
      else
        -- those that another gate holds make room for the next ones
        local through = 0
        while true do
          local most = math.min(room(id, gid) or gone - through, m.budget)
          if most <= 0 then break end
          local taken, made, isAll = admit(id, gid, most)
          m.budget = m.budget - taken
          through = through + made
          if isAll then break end
        end
        if m.budget == 0 and isCrowded(field .. '\\n') then
          -- the rest is for the next script
          looks[field] = now
          m.more = true
        end
        if sub(id, 1, 1) == 'r' and not looks[field] then
          local limits = limitsOf(gid)
          if limits then
            looks[field] = isCrowded(field .. '\\n') and (limits.r and nextPlace(id, limits.window) or now)
          elseif isCrowded(field .. '\\n') then
            -- a worker of the group knows better, or will
            redis.call('ZADD', LOOKS, 'NX', now + 1000, field)
          end
        end
      end
      from = '(' .. field .. '\\n\\255'
    end
  end

  -- What has been left to a script that knows these groups.
  function m.look()
    local due = redis.call('ZRANGEBYSCORE', LOOKS, '-inf', now, 'LIMIT', 0, ${most})
    local mine = {}
    for i = 1, #due do
      local newline = string.find(due[i], '\\n[^\\n]*$')
      local id, gid = sub(due[i], 1, newline - 1), sub(due[i], newline + 1)
      local letter, g = sub(id, 1, 1), groups[gid]
      if letter == 'g' then
        -- its worker is gone, and those of its group may be gone with it
        mine[#mine + 1] = due[i]
        m.free(tonumber(sub(id, 2)))
      elseif g and (letter ~= 'r' or g.n <= served) then
        mine[#mine + 1] = due[i]
        touch(id, 1)
      -- the rate of others is theirs to look at
      elseif #due == ${most} then
        looks[due[i]] = now + 1000
      end
    end
    if #mine > 0 then redis.call('ZREM', LOOKS, unpack(mine)) end
    -- as many as one turn can begin: they do not pile up
    local over, left = {}, ${most}
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', ENDS, '-inf', now, 'LIMIT', 0, ${most})) do
      if left == 0 then break end
      if sub(id, 1, 1) == 'r' then left = left - forget(id, '(' .. id .. '\\255', left) end
      if left > 0 then over[#over + 1] = id end
    end
    if #over > 0 then redis.call('ZREM', ENDS, unpack(over)) end
  end

  function m.flush()
    local i = 1
    while queue[i] do
      if touched[queue[i]] then open(queue[i]) end
      i = i + 1
    end
    queue = {}
    writeHeld()
    local sets, dels = {}, {}
    for field in pairs(changed) do
      if counts[field] == 0 then
        dels[#dels + 1] = field
      else
        sets[#sets + 1] = field
        sets[#sets + 1] = counts[field]
      end
    end
    changed = {}
    for id in pairs(settled) do
      if settling[id] then
        sets[#sets + 1] = id
        sets[#sets + 1] = settling[id]
      else
        dels[#dels + 1] = id
      end
    end
    settled = {}
    if #sets > 0 then many('HSET', GATES, sets) end
    if #dels > 0 then many('HDEL', GATES, dels) end
    writeStarts()
    if longest > 0 then
      local ends, left = {}, ${most}
      -- in a scope another task may have said that it is later
      local function isLater(id, over)
        local known = redis.call('ZSCORE', ENDS, id)
        if known and tonumber(known) > over then return false end
        ends[#ends + 1] = over
        ends[#ends + 1] = id
        return true
      end
      for id, over in pairs(cooling) do isLater(id, over) end
      for id, window in pairs(windows) do
        -- all together at least as many as have come
        if isLater(id, now + window) and left > 0 then
          left = left - forget(id, '[' .. id .. pack('>d', now - window) .. '\\255', left)
        end
      end
      many('ZADD', ENDS, ends)
      for _, key in ipairs({ STARTS, ENDS }) do
        local left = redis.call('PTTL', key)
        if left ~= -2 and left < longest then redis.call('PEXPIRE', key, longest) end
      end
      windows, cooling, longest = {}, {}, 0
    end
    for field, at in pairs(looks) do
      if at then
        redis.call('ZADD', LOOKS, at, field)
      elseif not isCrowded(field .. '\\n') then
        redis.call('ZREM', LOOKS, field)
      end
    end
    looks = {}
  end
  return m
end
`
