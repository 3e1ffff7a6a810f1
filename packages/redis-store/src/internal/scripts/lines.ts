/**
 * Lines of held runs, a part of `gates.ts`: those of a group that have the same two gates, since what refuses the first refuses
 * all of them.
 *
 * A line waits at the gate that refuses its first run. Where the other gate refuses that one, the line goes there, which is one
 * entry however many runs it has. Runs that went one by one cost hundreds of moves per run when the gates took turns.
 *
 * - The members of a line are in `held`: `+` and its gates, group, arrival, key. `+` is before the letters of gates, so that a
 *   reader of `held` meets runs before the entries of lines.
 * - Its entry is in `held`, too, as a run at the gate would be: gate, group, arrival of its first run, and in place of a key the
 *   byte 255, which no key has (they are UTF-8), and what its members begin with.
 * - Where it waits is in the hash `gates`, under what its members begin with: the letter of the gate, and that arrival.
 */
export const lines = `
  local lines, moved = {}, {}
  -- What the members of the line begin with that a run with these gates is held in, if it has two.
  local function lineOf(ids, gid) return ids.c and ids.r and prefix('+' .. ids.c .. ids.r, gid) end
  local function entryOf(line) return prefix(line.id, line.gid) .. pack('>d', line.arrival) .. '\\255' .. line.p end
  local function getLine(p, gid)
    local line = lines[p]
    if not line then
      line = { p = p, gid = gid, ids = split(sub(p, 2, -#gid - 3)) }
      local value = redis.call('HGET', GATES, p)
      if value then
        line.id, line.arrival = line.ids[sub(value, 1, 1)], tonumber(sub(value, 2))
        line.entry = entryOf(line)
      end
      lines[p] = line
    end
    return line
  end
  -- Where a line waits from now on, and when its first run came; nowhere if it has none.
  local function park(line, id, arrival)
    local before = line.id
    if before then
      local field = before .. '\\n' .. line.gid
      crowded[field .. '\\n'] = nil
      -- there may be nobody left to look for
      if before ~= id and not looks[field] then looks[field] = false end
    end
    line.id, line.arrival = id, arrival
    moved[line] = true
    if not id then return end
    local p = prefix(id, line.gid)
    if crowded[p] ~= nil then crowded[p] = math.min(crowded[p] or arrival, arrival) end
    -- somebody has to say when it is looked at
    if before ~= id and sub(id, 1, 1) == 'r' then touch(id, 0) end
  end
  function writeLines()
    local gone, come = {}, {}
    for line in pairs(moved) do
      local entry = line.id and entryOf(line)
      if entry ~= line.entry then
        if line.entry then gone[#gone + 1] = line.entry end
        if entry then
          come[#come + 1] = 0
          come[#come + 1] = entry
        end
        line.entry = entry
        settling[line.p] = entry and sub(entry, 1, 1) .. str(line.arrival)
        settled[line.p] = true
      end
    end
    moved = {}
    if #gone > 0 then many('ZREM', HOLDS, gone) end
    if #come > 0 then many('ZADD', HOLDS, come) end
  end

  -- A run is held in a line, refused by a gate if it is the first there.
  local function lineUp(p, gid, arrival, id)
    local line = getLine(p, gid)
    if not line.id or arrival < line.arrival then park(line, id, arrival) end
  end
  -- A run leaves its line.
  local function leaveLine(p, gid, arrival, key)
    writeHeld()
    redis.call('ZREM', HOLDS, p .. pack('>d', arrival) .. key)
    local line = getLine(p, gid)
    if line.id and line.arrival == arrival then
      local first = firstHeld(p, 1)[1]
      park(line, first and line.id, first and unpackFrom('>d', first, #p + 1))
    end
  end

  -- Takes runs out of a line that is the first at a gate, as far as the other gate has room for them and nobody else came
  -- before, at most so many; or has it wait at the other gate. How many steps that took, and how many runs are ready now.
  local function advanceLine(line, n, others)
    local p, gid, id, ids = line.p, line.gid, line.id, line.ids
    local other = id == ids.c and ids.r or ids.c
    local most = math.min(n, space(other, gid))
    local at = prefix(other, gid)
    local heads = firstHeld(p, math.max(0, most) + 1)
    local taken, keys, isRefused = {}, {}, most <= 0
    for i = 1, math.min(#heads, most) do
      local arrival = unpackFrom('>d', heads[i], #p + 1)
      if arrival > others then break end
      if isBehind(at, arrival) then isRefused = true; break end
      taken[i] = heads[i]
      keys[i] = sub(heads[i], #p + 9)
    end
    local nextOne = heads[#taken + 1]
    park(line, nextOne and (isRefused and other or id), nextOne and unpackFrom('>d', nextOne, #p + 1))
    if #taken == 0 then return 1, 0 end
    many('ZREM', HOLDS, taken)
    load(keys)
    local made = 0
    for i = 1, #taken do
      local r = cache[keys[i]] and decode(cache[keys[i]])
      if r and r.state == LINED and r.gid == gid and r.arrival == unpackFrom('>d', taken[i], #p + 1) then
        groups[gid].h = groups[gid].h - 1
        ready(r, keys[i], true, id)
        if r.state == READY then made = made + 1 end
      end
    end
    return #taken, made
  end
`
