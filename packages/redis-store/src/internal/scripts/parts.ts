/**
 * The part of a flow that a record has: a chunk of `flows.ts`.
 *
 * It is its length, then its index in the gather of its parent, its deadline (or infinity), whether it has a hash `flow:<key>`
 * (1) and a tail (2), what a cancel does, the generation of its parent, and six lengths, of what follows: the group in which it
 * waits for an interpreter; its step; what its interpreter has to know; key and gather of its parent, or nothing; and generation,
 * a slash, and key of the flow at the top, or nothing if that is its parent or itself. Members of a fan-out differ in the first
 * two numbers only.
 *
 * The tail is a row of texts (its length, a colon, and it): how its step ended (`=` and the text, or nothing); why it is stopped
 * (a row, or nothing); what it waits for (a row of a gather, how many have to succeed, to fail, to end, or nothing); and what it
 * waited for last (a row of a gather, how many succeeded and failed, or nothing).
 */

export const parts = `
  local PART = '>I4dBBdI4I4I4I4I4I4'
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
`
