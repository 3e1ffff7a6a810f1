/**
 * How the members of gathers have ended: a chunk of `flows.ts`.
 *
 * The hash `flow:<key>` has its generation (`of`), the names of its gathers (`ids`, a row), per gather (`g` and its name) when it
 * began, how many members succeeded and failed and how many places it has, and per member (when its gather began, a slash, its
 * index) a letter and a text: Done, Failed, Cancelled, Gone. It has a time to live once the flow has ended.
 */
import { most } from "./bounds.ts"

export const gathers = `
  local gathers = {}
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
    -- whatever another generation has asked for here
    if redis.call('HGET', named[t.key], 'of') ~= str(t.generation) then return end
    local g = gatherOf(t.key, { generation = t.generation, part = { owns = true } }, t.gather)
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
`
