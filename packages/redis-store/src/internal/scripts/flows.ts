/**
 * The flows of a docket in Redis: where their runs stand, how the members of their gathers ended, and when their patience ends.
 *
 * Like `gates.ts`, it is made when a script meets the first run of a flow: scripts that meet none pay for one function.
 *
 * - The record of such a run has, besides, its part: the length of it, then its index in the gather of its parent, its deadline
 *   (or infinity), whether it has a hash `flow:<key>` (1) and a tail (2), what a cancel does, the generation of its parent, and
 *   six lengths, of what follows: the group in which it waits for an interpreter; its step; what its interpreter has to know;
 *   key and gather of its parent, or nothing; and generation, a slash, and key of the flow at the top, or nothing if that is
 *   its parent or itself. The tail is a row of texts (its length, a colon, and it): how its step ended (`=`
 *   and the text, or nothing); why it is stopped (a row, or nothing); what it waits for (a row of a gather, how many have to
 *   succeed, to fail, to end, or nothing); and what it waited for last (a row of a gather, how many succeeded and failed, or
 *   nothing). Members of a fan-out differ in the first two numbers only.
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
  local PART = '>I4dBBdI4I4I4I4I4I4'
  local END, INTERPRET, IGNORE, NAMES = 1, 2, 3, { 'end', 'interpret', 'ignore' }
  local named, parents, gathers, expected = {}, {}, {}, {}
  local soonest, whose
  local m = { named = named, elsewhere = {}, garbage = {} }
  flowing = m
  for i = extra - flowKeys + 1, extra do named[sub(KEYS[i], #META + 2)] = KEYS[i] end

  local function row(text)
    local out, p, n = {}, 1, 0
    while p <= #text do
      local colon = string.find(text, ':', p, true)
      local length = colon and tonumber(sub(text, p, colon - 1))
      -- the rest is no row
      if not length or length < 0 or length > #text then break end
      local stop = colon + length
      n = n + 1
      out[n] = sub(text, colon + 1, stop)
      p = stop + 1
    end
    return out
  end

  -- The part of a flow that is in a record at p, and where it ends.
  function m.part(v, p)
    local stop = p + 4 + unpackFrom('>I4', v, p)
    local index, deadline, bits, onCancel, generation, lb, ls, lt, lk, lg, lf, at = unpackFrom(PART, v, p + 4)
    local step = at + lb
    local state = step + ls
    local key = state + lt
    local gather = key + lk
    local flow = gather + lg
    local tail = flow + lf
    local t = { index = index, deadline = deadline, owns = bits % 2 == 1, onCancel = onCancel, generation = generation,
      between = sub(v, at, step - 1), step = sub(v, step, state - 1), state = sub(v, state, key - 1),
      key = sub(v, key, gather - 1), gather = sub(v, gather, flow - 1), flow = sub(v, flow, tail - 1), exit = '', stopped = '', waits = '', last = '',
      fits = tail <= stop }
    if bits >= 2 then
      local texts = row(sub(v, tail, stop - 1))
      t.exit, t.stopped, t.waits, t.last = texts[1] or '', texts[2] or '', texts[3] or '', texts[4] or ''
    end
    return t, stop
  end
  -- Whether a text is one in the encoding of names: what is none cannot be asked for.
  local function isUtf8(text)
    if not string.find(text, '[\\128-\\255]') then return true end
    for _, form in ipairs({ '[\\194-\\223][\\128-\\191]', '\\224[\\160-\\191][\\128-\\191]',
      '[\\225-\\236\\238\\239][\\128-\\191][\\128-\\191]', '\\237[\\128-\\159][\\128-\\191]',
      '\\240[\\144-\\191][\\128-\\191][\\128-\\191]', '[\\241-\\243][\\128-\\191][\\128-\\191][\\128-\\191]',
      '\\244[\\128-\\143][\\128-\\191][\\128-\\191]' }) do
      text = string.gsub(text, form, ' ')
    end
    return not string.find(text, '[\\128-\\255]')
  end
  -- The same to read only, and its index: what members of a fan-out share is read once for all of them.
  local common = {}
  function m.glance(v, p)
    local length, index, deadline = unpackFrom('>I4I4d', v, p)
    local rest = sub(v, p + 16, p + 3 + length)
    local t = common[rest]
    if not t or t.deadline ~= deadline then
      t = m.part(v, p)
      t.isSound = t.fits and string.find(t.between, '^%d+//[!-~]+$') and isUtf8(t.key)
      common[rest] = t
    end
    return t, index
  end
  function m.pack(t)
    local tail = ''
    if t.exit ~= '' or t.stopped ~= '' or t.waits ~= '' or t.last ~= '' then
      tail = texts(t.exit, t.stopped, t.waits, t.last)
    end
    local part = pack(PART, t.index, t.deadline, (t.owns and 1 or 0) + (tail == '' and 0 or 2), t.onCancel, t.generation,
      #t.between, #t.step, #t.state, #t.key, #t.gather, #t.flow) ..
      t.between .. t.step .. t.state .. t.key .. t.gather .. t.flow .. tail
    return pack('>I4', #part) .. part
  end
  -- What packs the same part of another member, which differs in its index only.
  function m.packLike(t)
    local rest = sub(m.pack(t), 17)
    local length = #rest + 12
    return function(index) return pack('>I4I4d', length, index, t.deadline) .. rest end
  end
  -- Where a run stands, as a caller says it.
  local function readHead()
    local between, step, state, deadline, onCancel = arg(), arg(), arg(), arg(), arg()
    return { between = between, step = step, state = state, deadline = tonumber(deadline) or math.huge,
      onCancel = onCancel == 'end' and END or onCancel == 'interpret' and INTERPRET or IGNORE }
  end
  m.readHead = readHead
  -- A part, as an addition says it.
  function m.readPart()
    local t = readHead()
    t.key, t.generation, t.gather, t.index, t.flow = arg(), tonumber(arg()), arg(), tonumber(arg()), arg()
    t.owns, t.exit, t.stopped, t.waits, t.last = false, '', '', '', ''
    return t
  end
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

  -- The gathers of a run, as far as they are those of this generation.
  local function gathersOf(key, generation)
    local all = gathers[key]
    if not all then
      all = { isNew = redis.call('HGET', named[key], 'of') ~= str(generation), byId = {} }
      gathers[key] = all
    end
    return all
  end
  -- Where its members are in the hash, and what they have said in this script.
  local function begun(g) g.prefix, g.told = str(g.epoch) .. '/', {} end
  local function gatherOf(key, r, id)
    if not r.part.owns then return false end
    local all = gathersOf(key, r.generation)
    if all.byId[id] == nil then
      local v = not all.isNew and redis.call('HGET', named[key], 'g' .. id)
      local g = false
      if v then
        g = {}
        g.epoch, g.succeeded, g.failed, g.places = unpackFrom('>dI4I4I4', v)
        begun(g)
      end
      all.byId[id] = g
    end
    return all.byId[id]
  end
  local function namesOf(key, all) return row(not all.isNew and redis.call('HGET', named[key], 'ids') or '') end
  local function begin(key, r, id)
    local g = gatherOf(key, r, id)
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
    begun(g)
    all.byId[id] = g
    r.part.owns = true
    return g
  end
  local function writeGathers(key)
    for id, g in pairs(gathers[key] and gathers[key].byId or {}) do
      if g and g.changed then
        g.told[#g.told + 1] = 'g' .. id
        g.told[#g.told + 1] = pack('>dI4I4I4', g.epoch, g.succeeded, g.failed, g.places)
        many('HSET', named[key], g.told)
        g.told, g.changed = {}, false
      end
    end
  end
  local function waitsOf(t)
    if t.waits == '' then return end
    local w = row(t.waits)
    -- what is no number waits for nobody
    return { id = w[1] or '', succeeded = tonumber(w[2]) or 0, failed = tonumber(w[3]) or 0, ended = tonumber(w[4]) or 0 }
  end
  local function isMet(w, g)
    local succeeded, failed = g and g.succeeded or 0, g and g.failed or 0
    return succeeded >= w.succeeded or failed >= w.failed or succeeded + failed >= w.ended
  end
  -- What it waited for last has other numbers.
  local function recount(t, id, g)
    if t.last ~= '' and textAt(t.last, 1) == id then t.last = texts(id, g and g.succeeded or 0, g and g.failed or 0) end
  end

  -- A run that others report to. It is written when the script goes on to something else.
  local function parentOf(key, generation)
    local p = parents[key]
    if p == nil then
      local r = get(key)
      p = r and r.part and { r = r, waits = waitsOf(r.part), counted = {} } or false
      parents[key] = p
    end
    return p and p.r.generation == generation and p
  end
  local function writeParent(p)
    for id, g in pairs(p.counted) do recount(p.r.part, id, g) end
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

  -- Hears how a member of a gather ended; whether that is its first word.
  local function hear(g, key, index, letter, text)
    local place = g.prefix .. index
    if index >= g.places then
      g.places = index + 1
    elseif g.told[place] or redis.call('HEXISTS', named[key], place) == 1 then
      return false
    end
    g.told[#g.told + 1] = place
    g.told[#g.told + 1] = letter .. text
    g.told[place] = true
    if letter == 'D' then g.succeeded = g.succeeded + 1 else g.failed = g.failed + 1 end
    g.changed = true
    return true
  end
  -- A flow that has ended hears of a gather that it knows: what has succeeded is not run again when it is redriven.
  local function hearLate(t, index, letter, text)
    if parents[t.key] or not named[t.key] or letter == 'G' then return end
    local g = not gathersOf(t.key, t.generation).isNew and
      gatherOf(t.key, { generation = t.generation, part = { owns = true } }, t.gather)
    if g then hear(g, t.key, index, letter, text) end
  end

  -- Hears how a member ended. What comes for another generation, or a second time, is too late.
  function m.report(t, index, letter, text)
    local p = parentOf(t.key, t.generation)
    if not p then return hearLate(t, index, letter, text) end
    local key, id, r = t.key, t.gather, p.r
    local g = begin(key, r, id)
    if not hear(g, key, index, letter, text) then return end
    p.changed, p.counted[id] = true, g
    local w = p.waits
    if not w or w.id ~= id or not isMet(w, g) then return end
    take(r, key)
    r.part.waits = ''
    writeParent(p)
    parents[key] = nil
    ready(r, key, false)
  end

  -- Whether a member is to be added: its gather does not know how it ended. One that is tried again is forgotten.
  function m.mayJoin(t, again)
    local p = parentOf(t.key, t.generation)
    if not p then return false end
    local g = gatherOf(t.key, p.r, t.gather)
    -- nobody there has ended yet
    if not g or t.index >= g.places then return true end
    writeGathers(t.key)
    local place = g.prefix .. t.index
    local known = redis.call('HGET', named[t.key], place)
    if not known or not again or sub(known, 1, 1) == 'D' then return not known end
    redis.call('HDEL', named[t.key], place)
    g.failed = g.failed - 1
    g.changed, p.changed, p.counted[t.gather] = true, true, g
    return true
  end

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

  -- Forgets gathers: those in a chain, or all.
  local function forget(r, key, chain)
    local t = r.part
    local function isIn(id) return chain == '' or sub(id, 1, #chain + 1) == chain .. '/' end
    local last = t.last ~= '' and textAt(t.last, 1)
    if last and isIn(last) then recount(t, last) end
    if not t.owns then return end
    local all = gathersOf(key, r.generation)
    local kept, dels, rest = {}, {}, {}
    local gone = 0
    writeGathers(key)
    for _, id in ipairs(namesOf(key, all)) do
      if not isIn(id) then
        kept[#kept + 1] = #id .. ':' .. id
      else
        local g = gatherOf(key, r, id)
        gone = gone + 1
        dels[#dels + 1] = 'g' .. id
        -- the rest is removed by whoever called, some at a time
        if #dels + g.places > ${most} then
          rest[#rest + 1] = texts(key, g.epoch, g.places)
        else
          for i = 0, g.places - 1 do dels[#dels + 1] = g.prefix .. i end
        end
        all.byId[id] = nil
      end
    end
    if gone == 0 then return end
    if #kept == 0 then
      redis.call('UNLINK', named[key])
      gathers[key], t.owns = nil, false
      return
    end
    for _, one in ipairs(rest) do m.garbage[#m.garbage + 1] = one end
    many('HDEL', named[key], dels)
    redis.call('HSET', named[key], 'ids', table.concat(kept))
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
