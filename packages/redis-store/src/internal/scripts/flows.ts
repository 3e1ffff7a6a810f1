/**
 * The flows of a docket in Redis: where their runs stand, and when their patience ends. `parts.ts` has how that is stored in their
 * records, `gathers.ts` how the members of their gathers ended.
 *
 * Like `gates.ts`, it is made when a script meets the first run of a flow: scripts that meet none pay for one function.
 *
 * The sorted set `deadlines` has runs by when their patience ends; `meta` says whether there are any. A run that waits for its
 * members is in no index. Its record says how many have ended, so that who claims it needs no further key; the settlement of a
 * member names the hash of its parent, and the group in which that waits.
 */
import { most } from "./bounds.ts"
import { gathers } from "./gathers.ts"
import { parts } from "./parts.ts"

export const flows = `
function flow()
  if flowing then return flowing end
  local END, INTERPRET, IGNORE, NAMES = 1, 2, 3, { 'end', 'interpret', 'ignore' }
  local named, parents, expected = {}, {}, {}
  local soonest, whose
  local m = { named = named, elsewhere = {}, garbage = {} }
  flowing = m
  for i = extra - flowKeys + 1, extra do named[sub(KEYS[i], #META + 2)] = KEYS[i] end

${parts}
  local function assume(t, head)
    t.between, t.step, t.state, t.deadline, t.onCancel = head.between, head.step, head.state, head.deadline, head.onCancel
  end
  -- Tells of a step, with the flow at the top if it is that of a member.
  local function step(r, key, path, state)
    if path == '' or not watched then return end
    local t = r.part
    local flow = t.flow
    if flow == '' and t.key ~= '' then flow = str(t.generation) .. '/' .. t.key end
    publish(r.gid, key, r.generation, 'Step', path, state, flow)
  end
  function m.started(r, key) step(r, key, r.part.step, 'Started') end

${gathers}
  -- Whether a part, or a member from this one on, has nothing to be looked up, and no more to be written than its record.
  function m.isPlain(t)
    if t.deadline ~= math.huge then return false end
    local p = t.key ~= '' and parentOf(t.key, t.generation)
    local g = p and gatherOf(t.key, p.r, t.gather)
    return t.key == '' or p and (not g or t.index >= g.places)
  end

  -- When the patience of a run ends, or never.
  function m.expect(key, r, at)
    expected[key] = at
    if at ~= math.huge and (not soonest or at < soonest) then soonest, whose = at, r end
  end

  -- Puts it where interpreters look. It passes no gate.
  local function enter(r) r.gid, r.gates, r.priority = r.part.between, nil, 0 end
  local function interpret(r, key, why)
    local t = r.part
    take(r, key)
    t.waits = ''
    -- a limit that passes before its interpreter has come undoes no cancel
    if t.stopped == '' or textAt(t.stopped, 1) ~= 'Cancelled' then t.stopped = texts(why) end
    r.flags = r.flags - r.flags % 2
    r.token, r.worker = 0, ''
    if hasNote(r) then local old = note(key); setNote(r, key, old[1], '', old[3]) end
    enter(r)
    ready(r, key, false)
  end
  m.interpret = interpret
  -- What a cancel of it does: what it has done may have to be undone, or what its step has done that nobody has interpreted.
  local function onCancel(t) return t.onCancel == END and t.exit ~= '' and INTERPRET or t.onCancel end
  function m.onCancel(r) return NAMES[onCancel(r.part)] end
  -- Ends a run that somebody cancelled, or leaves that to its interpreter.
  local function abort(r, key, done)
    if onCancel(r.part) == INTERPRET then return interpret(r, key, 'Cancelled') end
    settle(r, key, done, CANCELLED, NONE, '')
  end
  function m.abort(r, key, done, isLast)
    -- what an interpreter says is the last word: it has undone what it could
    if isLast and r.gid == r.part.between then return settle(r, key, done, CANCELLED, NONE, '') end
    abort(r, key, done)
  end

  -- A lease is over: whether that is more than a claim that was lost.
  function m.abandoned(r, key)
    local t = r.part
    local why
    if cancelling(r) then
      if onCancel(t) ~= INTERPRET then return false end
      why = 'Cancelled'
    else
      if t.deadline > now then return false end
      why = 'Expired'
    end
    if groups[t.between] then interpret(r, key, why) else m.elsewhere[t.between] = true end
    return true
  end

  -- Those whose patience has ended go to interpreters, some. Who runs one has a clock.
  function m.expire()
    local due = redis.call('ZRANGEBYSCORE', DEADLINES, '-inf', now, 'LIMIT', 0, ${most})
    load(due)
    local gone = {}
    for _, key in ipairs(due) do
      local r = cache[key] and decode(cache[key])
      local t = r and r.part
      local isLate = t and t.deadline <= now and r.state ~= RUNNING
      if isLate and not (groups[t.between] and groups[r.gid]) then
        m.elsewhere[t.between] = true
        m.elsewhere[r.gid] = true
      else
        gone[#gone + 1] = key
        if isLate then interpret(r, key, 'Expired') end
      end
    end
    if #gone > 0 then redis.call('ZREM', DEADLINES, unpack(gone)) end
    m.more = #gone == ${most}
  end

  -- A ready step is to be claimed: its record, and whether it is not to begin. Its part is at p.
  function m.claim(v, p, strike)
    local _, _, _, bits = unpackFrom('>I4I4dB', v, p)
    if not strike and bits < 2 then return v, false end
    local r = decode(v)
    local t = r.part
    if not strike and (t.stopped == '' or textAt(t.stopped, 1) ~= 'Struck') then return v, t.stopped ~= '' end
    t.stopped = strike and texts('Struck', strike.reason, strike.author or '') or ''
    return encode(r), strike ~= nil
  end

  -- The same run goes on with another step, or waits.
  function m.goOn(r, key, done, c)
    local t, head = r.part, c.head
    if cancelling(r) and (head or t).onCancel ~= IGNORE then
      if head then
        assume(t, head)
        m.expect(key, r, t.deadline)
      else
        t.exit = c.exit
      end
      return abort(r, key, done)
    end
    take(r, key)
    r.flags = r.flags - r.flags % 2
    r.token, r.worker, r.attempt, r.lost = 0, '', 0, 0
    if hasNote(r) then setNote(r, key, '', '', note(key)[3]) end
    if not head then
      t.exit = c.exit
      if c.expired then t.stopped = texts('Expired') end
      enter(r)
      return ready(r, key, false)
    end
    local moves = t.step ~= head.step
    if moves then step(r, key, t.step, 'Ended') end
    local had = t.deadline
    assume(t, head)
    t.exit, t.stopped = '', ''
    if c.forget ~= '' then forget(r, key, sub(c.forget, 2)) end
    if had ~= math.huge or t.deadline ~= math.huge then m.expect(key, r, t.deadline) end
    if c.members then
      parents[key] = { r = r, waits = waitsOf(t), counted = {} }
      c.members.add()
      writeParent(parents[key])
      parents[key] = nil
    end
    if c.to == 'Step' then
      r.gid, r.priority, r.payload, r.gates = c.gid, c.priority, c.payload, c.gates
      return place(r, key, c.due, true)
    end
    enter(r)
    if moves then step(r, key, t.step, 'Started') end
    if c.to == 'Between' then return place(r, key, c.due, false) end
    t.waits = c.gather
    local w = waitsOf(t)
    local g = gatherOf(key, r, w.id)
    t.last = texts(w.id, g and g.succeeded or 0, g and g.failed or 0)
    if isMet(w, g) then
      t.waits = ''
      return ready(r, key, false)
    end
    r.state = GATHERING
    groups[r.gid].w = groups[r.gid].w + 1
    put(key, r)
  end

  -- What an outcome keeps of the part of a flow that a run was.
  function m.kept(r)
    local t = r.part
    local text = texts(t.between, t.step, t.state, t.deadline == math.huge and '' or string.format('%.17g', t.deadline),
      NAMES[t.onCancel], r.keepS, r.keepF)
    return #text .. ':' .. text
  end
  -- A run of a flow ends.
  function m.ending(r, key) step(r, key, r.part.step, 'Ended') end
  local function disown(key, t)
    if t.owns then redis.call('UNLINK', named[key]) end
    gathers[key] = nil
  end
  function m.ended(r, key, keep, letter, text)
    local t = r.part
    if t.deadline ~= math.huge then m.expect(key, r, math.huge) end
    if keep > 0 and t.owns then
      writeGathers(key)
      redis.call('PEXPIRE', named[key], keep)
    else
      disown(key, t)
    end
    if t.key ~= '' then m.report(t, t.index, letter, text) end
  end
  -- It is replaced, or cleared.
  function m.left(r, key)
    local t = r.part
    if t.deadline ~= math.huge then m.expect(key, r, math.huge) end
    disown(key, t)
    parents[key] = nil
  end
  function m.cleared(r, key)
    m.left(r, key)
    if named[r.part.key] then m.report(r.part, r.part.index, 'G', '') end
  end

  -- Whether a pending run is a member of the same generation of a parent.
  function m.isOf(r, t) return r.part and r.part.key ~= '' and r.part.generation == t.generation end
  -- A run begins, with its deadline after it is due.
  function m.begins(r, key, t, outcome)
    r.part = t
    if outcome then
      local _, tag, _, generation, _, _, _, gl, length = unpackFrom(DONE, outcome)
      if tag >= 16 then
        local kept = row((gatesAt(outcome, 45 + gl + length)))
        r.keepS, r.keepF = tonumber(kept[6]), tonumber(kept[7])
        if redis.call('HGET', named[key], 'of') == str(generation) then
          redis.call('HSET', named[key], 'of', str(r.generation))
          redis.call('PERSIST', named[key])
          t.owns = true
        end
      end
    end
    if t.deadline ~= math.huge then
      t.deadline = r.due + t.deadline
      m.expect(key, r, t.deadline)
    end
  end

  -- Whom a run reports to: its state and its group. The record may be long, and the same for many.
  local heads = {}
  local function headOf(t)
    local key = t.key
    if key == '' then return end
    local head = heads[key]
    if head == nil then
      load({ key })
      local v = cache[key]
      head = false
      if v then
        local state, flags, _, _, _, _, _, _, _, _, generation, _, _, _, gl, p = unpackFrom(HEAD, v)
        head = flags >= 8 and { state = state, generation = generation, gid = sub(v, p, p + gl - 1) }
      end
      heads[key] = head
    end
    return head and head.generation == t.generation and head
  end
  -- Names what a change of a run needs besides.
  function m.wants(t, key, want)
    want(groups, t.between)
    if t.owns then want(named, key) end
    if t.key == '' then return end
    want(named, t.key)
    local head = headOf(t)
    if not head then return end
    if head.state == GATHERING then want(groups, head.gid) end
  end
  function m.wantsCleared(r, key, want)
    if r.part.owns then want(named, key) end
    local head = headOf(r.part)
    if head and head.state == RUNNING then want(named, r.part.key) end
  end

  function m.flush()
    m.syncAll()
    for key in pairs(gathers) do writeGathers(key) end
    local sets, dels = {}, {}
    for key, at in pairs(expected) do
      if at ~= math.huge then
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
