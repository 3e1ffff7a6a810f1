/**
 * How a script adds a run: what `add` does with each addition, and a turn with the members of a gather.
 *
 * Of the arguments: number of kinds, and per kind: group, task, onExisting, priority, retention of successes, of failures,
 * flags (4: the payloads begin with gates; 8: they are parts of flows), debounce (or nothing: how long, at most how long,
 * whether the first payload counts); number of rows of additions that differ in key and payload only, and per row: how many,
 * kind, due (`at` and a time, or `in` and a delay), trace, generation to redrive (or nothing), and for parts of flows: group
 * between steps, step (or nothing), state, deadline after it is due (or nothing), what a cancel does, and key (or nothing),
 * generation and gather of the parent, the index of the first member, those of the others following it one by one, and the flow
 * at the top (as a part has it); then key and payload of each addition.
 */
export const adding = `
local ADDED, EXISTING, REPLACED, STOPPED, COOLING, JOINED_FIRST, JOINED_LAST = 1, 2, 3, 4, 5, 6, 7

local function readAdditions()
  local kinds, rows, keys = {}, {}, {}
  local a = { rows = rows, keys = keys, wary = false, settles = false }
  for i = 1, tonumber(arg()) do
    local k = { gid = arg(), task = arg(), onExisting = arg(), priority = tonumber(arg()), keepS = tonumber(arg()),
      keepF = tonumber(arg()), flags = tonumber(arg()), debounce = arg() }
    if k.debounce ~= '' then
      local wait, most, first = string.match(k.debounce, '^(%d+)/(%d*)/(%d)$')
      k.wait, k.most, k.first, a.settles = tonumber(wait), tonumber(most) or math.huge, first == '1', true
    end
    if k.onExisting == 'fail' or k.onExisting == 'replace' or k.flags >= 8 then a.wary = true end
    kinds[i] = k
  end
  local n = 0
  for i = 1, tonumber(arg()) do
    local row = { n = tonumber(arg()), kind = kinds[tonumber(arg())], due = dueOf(arg()), trace = arg(), redrive = arg() }
    if row.kind.flags >= 8 then row.part = flow().readPart() end
    n = n + row.n
    rows[i] = row
  end
  for i = 1, n do keys[i] = ARGV[at + i * 2 - 1] end
  a.at = at
  at = at + n * 2
  return a
end

-- The gates before a payload, and the payload.
local function unwrap(flags, payload)
  if flags % 8 < 4 then return nil, payload end
  local gates, p = gatesAt(payload, 1)
  return gates, sub(payload, p)
end
-- The part of a flow that is number n of a row.
local function partOf(row, n)
  if not row.part then return end
  local part = {}
  for name, value in pairs(row.part) do part[name] = value end
  part.index = part.index + n - 1
  return part
end

-- Names what additions need besides: the groups of runs that are replaced or joined, and what those leave behind.
local function wantFor(a, want)
  local i = 0
  for _, row in ipairs(a.rows) do
    local kind = row.kind
    for _ = 1, row.n do
      i = i + 1
      local key = a.keys[i]
      if cache[key] and (kind.onExisting == 'replace' or kind.flags >= 8) then
        local r = decode(cache[key])
        want(groups, r.gid)
        if r.part and r.part.owns then want(flowing.named, key) end
      end
      if kind.debounce ~= '' then
        local other = gate().pending((gatesAt(ARGV[a.at + i * 2], 1)))
        local r = other and get(other)
        if r then want(groups, r.gid) end
      end
    end
  end
end

local function adder()
  local answers, reasons = {}, {}
  local m = { answers = answers, reasons = reasons }
  local redrives = 0
  function m.answer(disposition, n, generation, due)
    answers[#answers + 1] = pack('>BI4dd', disposition, n, generation, due)
  end
  local answer = m.answer

  -- Adds number n of a row, whatever it is.
  function m.one(row, n, key, payload)
    local kind, due = row.kind, row.due
    local gates
    local part = partOf(row, n)
    local isMember = part and part.key ~= ''
    gates, payload = unwrap(kind.flags, payload)
    if isMember and not flowing.mayJoin(part, kind.onExisting == 'replace') then return answer(EXISTING, 1, 0, now) end
    if flowing then flowing.sync(key) end
    local known = cache[key] and decode(cache[key])
    local taken, latest, latestDue, outcome
    local asked, joins, other, since = due, nil, nil, nil
    if kind.debounce ~= '' and row.redrive == '' then
      due = math.max(due, now + kind.wait)
      other, since = gate().pending(gates)
      -- who asks for it replaces the run instead
      if other and (other ~= key or kind.onExisting ~= 'replace') then joins = get(other) end
    end
    if row.redrive == '' then
      -- a member of an earlier generation makes room
      local keeps = kind.onExisting ~= 'replace'
      if isMember and known then keeps = flowing.isOf(known, part) end
      taken = known and keeps and not (joins and other == key)
    else
      redrives = redrives + 1
      outcome = redis.call('GET', KEYS[extra + redrives])
      taken = known or not outcome
      if not taken then
        local _
        _, _, _, latest, _, _, latestDue = unpackFrom(DONE, outcome)
        taken = latest ~= tonumber(row.redrive)
      end
    end
    if known then latest, latestDue = known.generation, known.due end
    if taken then return answer(EXISTING, 1, latest or 0, latestDue or 0) end
    -- a gather has to hear of each of its members
    local strike = struck and not isMember and struck(kind.task, payload)
    if strike then
      reasons[#reasons + 1] = strike.reason
      reasons[#reasons + 1] = strike.author or ''
      return answer(STOPPED, 1, 0, due)
    end
    if gates and not isMember and row.redrive == '' and gate().isCooling(gates) then return answer(COOLING, 1, 0, due) end
    if joins then
      reasons[#reasons + 1] = other
      -- what is due keeps its place where it is
      local stays = joins.state ~= SCHEDULED and
        (kind.first or (joins.gates == gates and joins.gid == kind.gid and joins.priority == kind.priority))
      if not stays then
        take(joins, other)
        -- its entry in a list of ready runs is out of date with its arrival: it comes a little later, before the next one
        if joins.state == READY then joins.arrival = joins.arrival + 2 ^ -10 end
      end
      if not kind.first then
        -- of a newer version, it may be for other workers
        joins.gid, joins.priority, joins.keepS, joins.keepF = kind.gid, kind.priority, kind.keepS, kind.keepF
        joins.payload, joins.gates = payload, gates
        if row.trace ~= '' or hasNote(joins) then setNote(joins, other, '', '', row.trace) end
      end
      gate().settles(joins.gates, other, since, math.min(now + kind.wait, since + kind.most) > asked)
      if stays then
        put(other, joins)
      elseif joins.state == SCHEDULED then
        -- what is due stays so, though nobody has come for it
        local at = joins.due
        if at > now then at = math.max(asked, math.min(now + kind.wait, since + kind.most)) end
        place(joins, other, at, true)
      else
        ready(joins, other, true)
      end
      return answer(kind.first and JOINED_FIRST or JOINED_LAST, 1, joins.generation, joins.due)
    end
    if known then
      if known.gates and known.state == RUNNING then gate().replaced(known, key) end
      take(known, key)
      if known.part then flow().left(known, key) end
    end
    seq = seq + 1
    local r = { state = 0, flags = 0, gates = gates, attempt = 0, lost = 0, priority = kind.priority,
      generation = seq, arrival = 0, due = due, token = 0, settled = 0, started = 0, keepS = kind.keepS, keepF = kind.keepF, gid = kind.gid, worker = '', payload = payload }
    if part then flowing.begins(r, key, part, outcome) end
    if row.trace ~= '' or (known and hasNote(known)) then setNote(r, key, '', '', row.trace) end
    if kind.debounce ~= '' and row.redrive == '' then gate().settles(gates, key, now, due > asked) end
    if known then publish(r.gid, key, r.generation, 'Replaced', due) end
    place(r, key, due, not known)
    answer(known and REPLACED or ADDED, 1, r.generation, due)
  end

  -- Adds a row. One that nothing is special about is its record and an entry.
  local function addRow(row, keys, at, i)
    local kind, part, due = row.kind, row.part, row.due
    local gid, priority, keepS, keepF = kind.gid, kind.priority, kind.keepS, kind.keepF
    local g = groups[gid]
    local isPlain = row.redrive == '' and row.trace == '' and not watched and kind.flags % 8 == 0 and
      (not struck or part and part.key ~= '') and (not part or flowing.isPlain(part))
    local flags, partLike = 0, nil
    if isPlain and part then flags, partLike = 8, flowing.packLike(part) end
    local state = due <= now and READY or SCHEDULED
    local back = isPlain and state == READY and priority == 0 and list(g, 'back')
    local inRow = 0
    for n = 1, row.n do
      local key, payload = keys[i + n], ARGV[at + (i + n) * 2]
      if isPlain and not cache[key] then
        seq = seq + 1
        inRow = inRow + 1
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
        cache[key] = pack(HEAD, state, flags, 0, 0, 0, 0, 0, 0, seq, due, seq, priority, keepS, keepF, #gid) .. gid ..
          (partLike and partLike(part.index + n - 1) or '') .. payload
        dirty[key] = true
      else
        if inRow > 0 then answer(ADDED, inRow, seq - inRow + 1, due); inRow = 0 end
        m.one(row, n, key, payload)
      end
    end
    if inRow > 0 then answer(ADDED, inRow, seq - inRow + 1, due) end
  end
  function m.all(a)
    local i = 0
    for _, row in ipairs(a.rows) do
      addRow(row, a.keys, a.at, i)
      i = i + row.n
    end
  end
  return m
end
`
