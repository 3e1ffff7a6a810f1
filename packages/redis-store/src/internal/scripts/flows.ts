/**
 * The flows of a docket in Redis: where their runs stand, how the members of their gathers ended, and when their patience ends.
 *
 * Like `gates.ts`, it is made when a script meets the first run of a flow: scripts that meet none pay for one function.
 *
 * - The record of such a run has, besides, a row of texts (its length, a colon, and it): the group in which it waits for an
 *   interpreter; its step (`=` and the path, or nothing); what its interpreter has to know; its deadline; what a cancel does;
 *   its parent (a row of key, generation, gather, index, or nothing); how its step ended (`=` and the text, or nothing); why
 *   it is stopped (a row, or nothing); what it waits for (a row of a gather, how many have to succeed, to fail, to end, or
 *   nothing); what it waited for last (a row of a gather, how many succeeded and failed, or nothing); and whether it has a
 *   hash `flow:<key>`.
 * - That hash has its generation (`of`), the names of its gathers (`ids`, a row), per gather (`g` and its name) when it began,
 *   how many members succeeded and failed and how many places it has, and per member (when its gather began, a slash, its
 *   index) a letter and a text: Done, Failed, Cancelled, Gone. It has a time to live once the flow has ended.
 * - The sorted set `deadlines` has runs by when their patience ends; `meta` says whether there are any.
 *
 * A run that waits for its members is in no index. Its record says how many have ended, so that who claims it needs no
 * further key; the settlement of a member names the hash of its parent, and the group in which that waits.
 */
import { most } from "./bounds.ts"

export const flows = `
function flow()
  if flowing then return flowing end
  local BETWEEN, STEP, DEADLINE, ON_CANCEL, PARENT, EXITED, STOPPED, WAITS, LAST, OWNS = 1, 2, 4, 5, 6, 7, 8, 9, 10, 11
  local named, parents, gathers, expected = {}, {}, {}, {}
  local soonest, whose
  local m = { named = named, elsewhere = {}, garbage = {} }
  flowing = m
  for i = extra - flowKeys + 1, extra do named[sub(KEYS[i], #META + 2)] = KEYS[i] end

  local function row(text)
    local out, p, n = {}, 1, 0
    while p <= #text do
      local colon = string.find(text, ':', p, true)
      local stop = colon + tonumber(sub(text, p, colon - 1))
      n = n + 1
      out[n] = sub(text, colon + 1, stop)
      p = stop + 1
    end
    return out
  end
  -- Read, and not changed.
  local read = {}
  local function partOf(text)
    local part = read[text]
    if not part then
      part = { t = row(text) }
      part.parent = part.t[PARENT] ~= '' and row(part.t[PARENT])
      read[text] = part
    end
    return part
  end
  local function write(r, t) r.thread = texts(unpack(t, 1, OWNS)) end
  local function step(r, key, path, state)
    if path ~= '' then publish(r.gid, key, r.generation, 'Step', sub(path, 2), state) end
  end

  -- The gathers of a run, as far as they are those of this generation.
  local function gathersOf(key, generation)
    local all = gathers[key]
    if not all then
      all = { isNew = redis.call('HGET', named[key], 'of') ~= str(generation), byId = {} }
      gathers[key] = all
    end
    return all
  end
  local function gatherOf(key, r, t, id)
    if t[OWNS] == '' then return false end
    local all = gathersOf(key, r.generation)
    if all.byId[id] == nil then
      local v = not all.isNew and redis.call('HGET', named[key], 'g' .. id)
      local g = false
      if v then
        g = {}
        g.epoch, g.succeeded, g.failed, g.places = unpackFrom('>dI4I4I4', v)
      end
      all.byId[id] = g
    end
    return all.byId[id]
  end
  local function namesOf(key, all) return row(not all.isNew and redis.call('HGET', named[key], 'ids') or '') end
  local function begin(key, r, t, id)
    local g = gatherOf(key, r, t, id)
    if g then return g end
    local all = gathersOf(key, r.generation)
    local ids = namesOf(key, all)
    if all.isNew then
      redis.call('UNLINK', named[key])
      all.isNew = false
    end
    ids[#ids + 1] = id
    for i = 1, #ids do ids[i] = #ids[i] .. ':' .. ids[i] end
    redis.call('HSET', named[key], 'of', str(r.generation), 'ids', table.concat(ids))
    seq = seq + 1
    g = { epoch = seq, succeeded = 0, failed = 0, places = 0, changed = true }
    all.byId[id] = g
    t[OWNS] = '1'
    return g
  end
  local function writeGathers(key)
    for id, g in pairs(gathers[key] and gathers[key].byId or {}) do
      if g and g.changed then
        redis.call('HSET', named[key], 'g' .. id, pack('>dI4I4I4', g.epoch, g.succeeded, g.failed, g.places))
        g.changed = false
      end
    end
  end
  local function isMet(w, g)
    local succeeded, failed = g and g.succeeded or 0, g and g.failed or 0
    return succeeded >= tonumber(w[2]) or failed >= tonumber(w[3]) or succeeded + failed >= tonumber(w[4])
  end
  -- What it waited for last has other numbers.
  local function recount(t, id, g)
    if t[LAST] ~= '' and textAt(t[LAST], 1) == id then t[LAST] = texts(id, g and g.succeeded or 0, g and g.failed or 0) end
  end

  -- A run that others report to. It is written when the script goes on to something else.
  local function parentOf(parent)
    local key = parent[1]
    local p = parents[key]
    if p == nil then
      local r = get(key)
      p = r and r.thread and { r = r, t = row(r.thread), counted = {} } or false
      if p then p.generation, p.waits = str(r.generation), p.t[WAITS] ~= '' and row(p.t[WAITS]) end
      parents[key] = p
    end
    return p and p.generation == parent[2] and p
  end
  local function writeParent(p)
    for id, g in pairs(p.counted) do recount(p.t, id, g) end
    write(p.r, p.t)
  end
  function m.sync(key)
    local p = parents[key]
    if p and p.changed then
      writeParent(p)
      put(key, p.r)
    end
    parents[key] = nil
  end
  function m.syncAll()
    for key in pairs(parents) do m.sync(key) end
  end

  -- Hears how a member ended. What comes for another generation, or a second time, is too late.
  local function report(parent, letter, text)
    local p = parentOf(parent)
    if not p then return end
    local key, id, r, t = parent[1], parent[3], p.r, p.t
    local g = begin(key, r, t, id)
    if redis.call('HSETNX', named[key], str(g.epoch) .. '/' .. parent[4], letter .. text) == 0 then return end
    if letter == 'D' then g.succeeded = g.succeeded + 1 else g.failed = g.failed + 1 end
    g.places = math.max(g.places, tonumber(parent[4]) + 1)
    g.changed, p.changed, p.counted[id] = true, true, g
    local w = p.waits
    if not w or w[1] ~= id or not isMet(w, g) then return end
    take(r, key)
    t[WAITS] = ''
    writeParent(p)
    parents[key] = nil
    ready(r, key, false)
  end

  -- Whether a member is to be added: its gather does not know how it ended. One that is tried again is forgotten.
  function m.mayJoin(parent, again)
    local p = parentOf(parent)
    if not p then return false end
    local key, id = parent[1], parent[3]
    local g = gatherOf(key, p.r, p.t, id)
    -- nobody there has ended yet
    if not g or tonumber(parent[4]) >= g.places then return true end
    local field = str(g.epoch) .. '/' .. parent[4]
    local known = redis.call('HGET', named[key], field)
    if not known or not again or sub(known, 1, 1) == 'D' then return not known end
    redis.call('HDEL', named[key], field)
    g.failed = g.failed - 1
    g.changed, p.changed, p.counted[id] = true, true, g
    return true
  end

  -- When the patience of a run ends, or never.
  function m.expect(key, r, at)
    expected[key] = at or false
    if at and (not soonest or at < soonest) then soonest, whose = at, r end
  end

  -- Puts it where interpreters look. It passes no gate.
  local function enter(r, t) r.gid, r.gates, r.priority = t[BETWEEN], nil, 0 end
  local function interpret(r, key, t, why)
    take(r, key)
    t[WAITS] = ''
    -- a limit that passes before its interpreter has come undoes no cancel
    if t[STOPPED] == '' or textAt(t[STOPPED], 1) ~= 'Cancelled' then t[STOPPED] = texts(why) end
    r.flags = r.flags - r.flags % 2
    r.token, r.worker = 0, ''
    if hasNote(r) then local old = note(key); setNote(r, key, old[1], '', old[3]) end
    enter(r, t)
    write(r, t)
    ready(r, key, false)
  end
  -- What a cancel of it does: what it has done may have to be undone, or what its step has done that nobody has interpreted.
  local function onCancel(t) return t[ON_CANCEL] == 'end' and t[EXITED] ~= '' and 'interpret' or t[ON_CANCEL] end
  function m.onCancel(r) return onCancel(row(r.thread)) end
  -- Ends a run that somebody cancelled, or leaves that to its interpreter.
  local function abort(r, key, done, t)
    if onCancel(t) == 'interpret' then return interpret(r, key, t, 'Cancelled') end
    settle(r, key, done, CANCELLED, NONE, '')
  end
  function m.abort(r, key, done, isLast)
    local t = row(r.thread)
    -- what an interpreter says is the last word: it has undone what it could
    if isLast and r.gid == t[BETWEEN] then return settle(r, key, done, CANCELLED, NONE, '') end
    abort(r, key, done, t)
  end

  -- A lease is over: whether that is more than a claim that was lost.
  function m.abandoned(r, key)
    local t = row(r.thread)
    local why
    if cancelling(r) then
      if onCancel(t) ~= 'interpret' then return false end
      why = 'Cancelled'
    else
      local at = tonumber(t[DEADLINE])
      if not at or at > now then return false end
      why = 'Expired'
    end
    if groups[t[BETWEEN]] then interpret(r, key, t, why) else m.elsewhere[t[BETWEEN]] = true end
    return true
  end

  -- Those whose patience has ended go to interpreters, some. Who runs one has a clock.
  function m.expire()
    local due = redis.call('ZRANGEBYSCORE', DEADLINES, '-inf', now, 'LIMIT', 0, ${most})
    load(due)
    local gone = {}
    for _, key in ipairs(due) do
      local r = cache[key] and decode(cache[key])
      local t = r and r.thread and row(r.thread)
      local at = t and tonumber(t[DEADLINE])
      local isLate = at and at <= now and r.state ~= RUNNING
      if isLate and not (groups[t[BETWEEN]] and groups[r.gid]) then
        m.elsewhere[t[BETWEEN]] = true
        m.elsewhere[r.gid] = true
      else
        gone[#gone + 1] = key
        if isLate then interpret(r, key, t, 'Expired') end
      end
    end
    if #gone > 0 then redis.call('ZREM', DEADLINES, unpack(gone)) end
    m.more = #gone == ${most}
  end

  -- A ready step is to be claimed: its record, and whether it is not to begin.
  function m.claim(v, p, strike)
    local stopped = textAt(m.textIn(v, p), STOPPED)
    if not strike and (stopped == '' or textAt(stopped, 1) ~= 'Struck') then return v, stopped ~= '' end
    local r = decode(v)
    local t = row(r.thread)
    t[STOPPED] = strike and texts('Struck', strike.reason, strike.author or '') or ''
    write(r, t)
    return encode(r), strike ~= nil
  end
  function m.stepOf(r) return sub(textAt(r.thread, STEP), 2) end
  -- The part of a record, after its group.
  function m.textIn(v, p)
    local _, flags = unpackFrom('>BB', v)
    if flags % 8 >= 4 then _, p = gatesAt(v, p) end
    return (gatesAt(v, p))
  end

  -- Forgets gathers: those in a chain, or all.
  local function forget(r, key, t, chain)
    local function isIn(id) return chain == '' or sub(id, 1, #chain + 1) == chain .. '/' end
    local last = t[LAST] ~= '' and textAt(t[LAST], 1)
    if last and isIn(last) then recount(t, last) end
    if t[OWNS] == '' then return end
    local all = gathersOf(key, r.generation)
    local kept, dels, rest = {}, {}, {}
    local gone = 0
    for _, id in ipairs(namesOf(key, all)) do
      if not isIn(id) then
        kept[#kept + 1] = #id .. ':' .. id
      else
        local g = gatherOf(key, r, t, id)
        gone = gone + 1
        dels[#dels + 1] = 'g' .. id
        -- the rest is removed by whoever called, some at a time
        if #dels + g.places > ${most} then
          rest[#rest + 1] = texts(key, g.epoch, g.places)
        else
          for i = 0, g.places - 1 do dels[#dels + 1] = str(g.epoch) .. '/' .. i end
        end
        all.byId[id] = nil
      end
    end
    if gone == 0 then return end
    if #kept == 0 then
      redis.call('UNLINK', named[key])
      gathers[key], t[OWNS] = nil, ''
      return
    end
    for _, one in ipairs(rest) do m.garbage[#m.garbage + 1] = one end
    many('HDEL', named[key], dels)
    redis.call('HSET', named[key], 'ids', table.concat(kept))
  end

  -- The same run goes on with another step, or waits.
  function m.goOn(r, key, done, c)
    local t = row(r.thread)
    local head = c.thread and row(c.thread)
    if cancelling(r) and (head or t)[ON_CANCEL] ~= 'ignore' then
      if head then
        for i = 1, ON_CANCEL do t[i] = head[i] end
        m.expect(key, r, tonumber(t[DEADLINE]))
      else
        t[EXITED] = c.exit
      end
      write(r, t)
      return abort(r, key, done, t)
    end
    take(r, key)
    r.flags = r.flags - r.flags % 2
    r.token, r.worker, r.attempt, r.lost = 0, '', 0, 0
    if hasNote(r) then setNote(r, key, '', '', note(key)[3]) end
    if not head then
      t[EXITED] = c.exit
      if c.expired then t[STOPPED] = texts('Expired') end
      enter(r, t)
      write(r, t)
      return ready(r, key, false)
    end
    local moves = t[STEP] ~= head[STEP]
    if moves then step(r, key, t[STEP], 'Ended') end
    for i = 1, ON_CANCEL do t[i] = head[i] end
    t[EXITED], t[STOPPED] = '', ''
    if c.forget ~= '' then forget(r, key, t, sub(c.forget, 2)) end
    m.expect(key, r, tonumber(t[DEADLINE]))
    if c.members then
      parents[key] = { r = r, t = t, generation = str(r.generation), counted = {} }
      c.members.add()
      parents[key] = nil
    end
    if c.to == 'Step' then
      r.gid, r.priority, r.payload, r.gates = c.gid, c.priority, c.payload, c.gates
      write(r, t)
      return place(r, key, c.due, true)
    end
    enter(r, t)
    if moves then step(r, key, t[STEP], 'Started') end
    if c.to == 'Between' then
      write(r, t)
      return place(r, key, c.due, false)
    end
    local w = row(c.gather)
    local g = gatherOf(key, r, t, w[1])
    t[LAST] = texts(w[1], g and g.succeeded or 0, g and g.failed or 0)
    if isMet(w, g) then
      write(r, t)
      return ready(r, key, false)
    end
    t[WAITS] = c.gather
    write(r, t)
    r.state = GATHERING
    groups[r.gid].w = groups[r.gid].w + 1
    put(key, r)
  end

  -- What an outcome keeps of the part of a flow that a run was.
  function m.kept(r)
    local t = row(r.thread)
    local text = texts(t[1], t[2], t[3], t[4], t[5], r.keepS, r.keepF)
    return #text .. ':' .. text
  end
  -- A run of a flow ends.
  function m.ending(r, key)
    local part = partOf(r.thread)
    step(r, key, part.t[STEP], 'Ended')
    return part
  end
  local function disown(key, t)
    if t[OWNS] == '1' then redis.call('UNLINK', named[key]) end
    gathers[key] = nil
  end
  function m.ended(r, key, part, keep, letter, text)
    local t = part.t
    if t[DEADLINE] ~= '' then m.expect(key, r) end
    if keep > 0 and t[OWNS] == '1' then
      writeGathers(key)
      redis.call('PEXPIRE', named[key], keep)
    else
      disown(key, t)
    end
    if part.parent then report(part.parent, letter, text) end
  end
  -- It is replaced, or cleared.
  function m.left(r, key)
    local t = row(r.thread)
    if t[DEADLINE] ~= '' then m.expect(key, r) end
    disown(key, t)
    parents[key] = nil
    return t
  end
  function m.cleared(r, key)
    local t = m.left(r, key)
    local parent = t[PARENT] ~= '' and row(t[PARENT])
    if parent and named[parent[1]] then report(parent, 'G', '') end
  end

  -- The part of a flow that is added, and the gather that it reports to.
  function m.added(text)
    local parent = textAt(text, PARENT)
    return parent ~= '' and row(parent)
  end
  -- Whether a pending run is a member of that generation of its parent.
  function m.isOf(r, parent)
    local own = r.thread and textAt(r.thread, PARENT)
    return own and own ~= '' and textAt(own, 2) == parent[2]
  end
  function m.begins(r, key, text, outcome)
    r.thread = text
    if not outcome and textAt(text, DEADLINE) == '' then return end
    local t = row(text)
    if outcome then
      local _, tag, _, generation, _, _, _, gl, length = unpackFrom(DONE, outcome)
      if tag >= 16 then
        local kept = row((gatesAt(outcome, 45 + gl + length)))
        r.keepS, r.keepF = tonumber(kept[6]), tonumber(kept[7])
        if redis.call('HGET', named[key], 'of') == str(generation) then
          redis.call('HSET', named[key], 'of', str(r.generation))
          redis.call('PERSIST', named[key])
          t[OWNS] = '1'
        end
      end
    end
    if t[DEADLINE] ~= '' then
      local at = r.due + tonumber(t[DEADLINE])
      t[DEADLINE] = string.format('%.17g', at)
      m.expect(key, r, at)
    end
    write(r, t)
  end

  -- Whom a run reports to: its key, its state and its group. The record may be long, and the same for many.
  local heads = {}
  local function headOf(parent)
    if not parent then return end
    local key = parent[1]
    local head = heads[key]
    if head == nil then
      load({ key })
      local v = cache[key]
      head = false
      if v then
        local state, flags, _, _, _, _, _, _, _, _, generation, _, _, _, gl, p = unpackFrom(HEAD, v)
        head = flags >= 8 and { key = key, state = state, generation = str(generation), gid = sub(v, p, p + gl - 1) }
      end
      heads[key] = head
    end
    return head and head.generation == parent[2] and head
  end
  -- Names what a change of a run needs besides.
  function m.wants(text, key, want)
    local part = partOf(text)
    want(groups, part.t[BETWEEN])
    if part.t[OWNS] == '1' then want(named, key) end
    local head = headOf(part.parent)
    if not head then return end
    want(named, head.key)
    if head.state == GATHERING then want(groups, head.gid) end
  end
  function m.wantsCleared(r, key, want)
    if m.owns(r) then want(named, key) end
    local head = headOf(partOf(r.thread).parent)
    if head and head.state == RUNNING then want(named, head.key) end
  end
  function m.owns(r) return r.thread and textAt(r.thread, OWNS) == '1' end

  function m.flush()
    m.syncAll()
    for key in pairs(gathers) do writeGathers(key) end
    local sets, dels = {}, {}
    for key, at in pairs(expected) do
      if at then
        sets[#sets + 1] = at
        sets[#sets + 1] = key
      else
        dels[#dels + 1] = key
      end
    end
    expected = {}
    if #sets > 0 then
      local first = redis.call('ZRANGE', DEADLINES, 0, 0, 'WITHSCORES')[2]
      local g = groups[whose.gid]
      if (not first or soonest < tonumber(first)) and not (g.sooner and g.sooner <= soonest) then g.sooner = soonest end
      many('ZADD', DEADLINES, sets)
      if not meta[4] then
        redis.call('HSET', META, 'deadlines', '1')
        meta[4] = '1'
      end
    end
    if #dels > 0 then many('ZREM', DEADLINES, dels) end
  end
  return m
end
`
