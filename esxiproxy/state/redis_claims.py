"""The Lua of leases, claims and marks, which Redis runs as one script with :mod:`redis_lists`.

One script is one transaction: all claims of a session are taken or none.  Times are those of the server.
Every key begins with the prefix in braces, so that all are in one slot of a cluster:

    schema                  the version of this layout
    origin                  since: from when marks are complete; ready: until when processes register;
                            server: the run id of the server at which processes have registered;
                            copy, newest, changed: such a server, the end of the newest lease that it had
                            before, and the time of the first registration
    holders                 holder by the end of its lease, which is 0 when a part of it was released
    c:NAME                  the slots of a claim, each with its holder
    rates                   token buckets by the time at which they are full
    m:DIGEST, marks         the marks of links, and their digests by expiry
    h:slots:HOLDER, h:marks:HOLDER, h:sessions:HOLDER   what a holder has
"""

SCHEMA_VERSION = "1"
REGISTRATION = 2.0
"""Seconds in which all processes register and none admits, after Redis was emptied, replaced or away."""
SERVER_TIME = """
local function clock()
  local t = redis.call('TIME')
  return tonumber(t[1]) + tonumber(t[2]) / 1000000
end
"""

CLAIMS = """
local function text(number) return string.format('%.6f', number) end

local function split(joined)
  local at = string.find(joined, '\\n', 1, true)
  return string.sub(joined, 1, at - 1), string.sub(joined, at + 1)
end

-- Marks.  A mark without a holder may be taken again until its time.

local function read_mark(digest)
  local m = redis.call('HMGET', P .. 'm:' .. digest, 'expires', 'reuse', 'count', 'until', 'slot', 'holder')
  if not m[1] then return nil end
  return {expires = m[1], reuse = m[2], count = tonumber(m[3]), ends = m[4], slot = m[5], holder = m[6]}
end

local function write_mark(digest, m)
  redis.call('HSET', P .. 'm:' .. digest, 'expires', m.expires, 'reuse', m.reuse, 'count', m.count,
    'until', m.ends, 'slot', m.slot, 'holder', m.holder)
  redis.call('ZADD', P .. 'marks', m.expires, digest)
  if m.holder ~= '' then redis.call('SADD', P .. 'h:marks:' .. m.holder, digest) end
end

local function taken_mark(digest, stored, reuse, most, slot)
  if now >= tonumber(stored) then return nil end
  local m = read_mark(digest)
  if not m then
    return {expires = stored, reuse = reuse, count = 1, ends = '0', slot = slot, holder = holder}
  end
  if m.holder ~= '' then
    if m.slot == slot and m.holder == holder then return m end
    return nil, m
  end
  if now >= tonumber(m.ends) or m.count >= tonumber(most) then return nil, m end
  if tonumber(stored) > tonumber(m.expires) then m.expires = stored end
  m.count, m.slot, m.holder = m.count + 1, slot, holder
  return m
end

local function release_mark(digest, m, outcome)
  if m.holder ~= '' then redis.call('SREM', P .. 'h:marks:' .. m.holder, digest) end
  if outcome == 'unused' and m.count <= 1 then
    redis.call('DEL', P .. 'm:' .. digest)
    redis.call('ZREM', P .. 'marks', digest)
    return
  end
  if outcome == 'unused' then
    m.count = m.count - 1
  elseif outcome == 'done' and tonumber(m.reuse) > 0 then
    m.ends = text(now + tonumber(m.reuse))
  else
    m.ends = '0'
  end
  m.slot, m.holder = '', ''
  write_mark(digest, m)
end

-- Whether no other slot has taken the mark since.  The count is -1 if the reply to its take was lost.
local function is_of(m, count, slot)
  local held = m.slot == slot and m.holder == holder
  if count < 0 then return held end
  return m.count == count and (m.holder == '' or held)
end

local function give_marks(next)
  for _ = 1, tonumber(next()) do
    local digest, count, slot, outcome = next(), tonumber(next()), next(), next()
    local m = read_mark(digest)
    if m and is_of(m, count, slot) then release_mark(digest, m, outcome) end
  end
end

local function restore_marks(next)
  for _ = 1, tonumber(next()) do
    local digest, count, slot, expires = next(), tonumber(next()), next(), next()
    local reuse, ends = next(), next()
    local m = read_mark(digest)
    if not m or is_of(m, count, slot) then
      write_mark(digest,
        {expires = expires, reuse = reuse, count = count, ends = ends, slot = slot, holder = holder})
    end
  end
end

-- Slots

local function add_slot(name, slot)
  redis.call('HSET', P .. 'c:' .. name, slot, holder)
  redis.call('SADD', P .. 'h:slots:' .. holder, slot .. '\\n' .. name)
end

local function free_slot(name, slot, whose)
  if redis.call('HGET', P .. 'c:' .. name, slot) == whose then redis.call('HDEL', P .. 'c:' .. name, slot) end
end

local function release_slot(name, slot, whose)
  free_slot(name, slot, whose)
  redis.call('SREM', P .. 'h:slots:' .. whose, slot .. '\\n' .. name)
end

-- One call for many values.
local function in_batches(call, key, values)
  for i = 1, #values, BATCH do
    redis.call(call, key, unpack(values, i, math.min(i + BATCH - 1, #values)))
  end
end

-- The values of many fields, false for one that is missing.
local function read_in_batches(key, fields)
  local found = {}
  for i = 1, #fields, BATCH do
    local values = redis.call('HMGET', key, unpack(fields, i, math.min(i + BATCH - 1, #fields)))
    for _, value in ipairs(values) do found[#found + 1] = value end
  end
  return found
end

-- Makes the slots of this holder those that follow.
local function restore_slots(next)
  local wanted, joined, by_name = {}, {}, {}
  for _ = 1, tonumber(next()) do
    local slot = next()
    for _ = 1, tonumber(next()) do
      local name = next()
      local one = slot .. '\\n' .. name
      wanted[one], joined[#joined + 1] = true, one
      local pairs_of = by_name[name] or {}
      pairs_of[#pairs_of + 1], pairs_of[#pairs_of + 2] = slot, holder
      by_name[name] = pairs_of
    end
  end
  for _, one in ipairs(redis.call('SMEMBERS', P .. 'h:slots:' .. holder)) do
    if not wanted[one] then
      local slot, name = split(one)
      free_slot(name, slot, holder)
    end
  end
  redis.call('DEL', P .. 'h:slots:' .. holder)
  in_batches('SADD', P .. 'h:slots:' .. holder, joined)
  for name, values in pairs(by_name) do in_batches('HSET', P .. 'c:' .. name, values) end
end

-- Leases

local function withdraw(session, whose)
  local found = redis.call('HGET', P .. 'sessions', session)
  if not found then return nil end
  local owner, cursor = split(found)
  if owner ~= whose then return nil end
  local entry = redis.call('HGET', P .. 'entries', cursor)
  redis.call('ZREM', P .. 'list', cursor)
  redis.call('HDEL', P .. 'entries', cursor)
  redis.call('HDEL', P .. 'sessions', session)
  redis.call('SREM', P .. 'h:sessions:' .. owner, session)
  return entry
end

local function release_marks(whose, most)
  local digests = redis.call('SPOP', P .. 'h:marks:' .. whose, most)
  for _, digest in ipairs(digests) do
    local m = read_mark(digest)
    if m and m.holder == whose then release_mark(digest, m, 'done') end
  end
  return #digests
end

local function release_tasks(whose)
  local leaders = redis.call('HGETALL', P .. 'leaders')
  for i = 1, #leaders, 2 do
    if leaders[i + 1] == whose then redis.call('HDEL', P .. 'leaders', leaders[i]) end
  end
end

local function release_slots(whose, most)
  local joined, by_name = redis.call('SPOP', P .. 'h:slots:' .. whose, most), {}
  for _, one in ipairs(joined) do
    local slot, name = split(one)
    local slots = by_name[name] or {}
    slots[#slots + 1], by_name[name] = slot, slots
  end
  for name, slots in pairs(by_name) do
    local own = {}
    for i, owner in ipairs(read_in_batches(P .. 'c:' .. name, slots)) do
      if owner == whose then own[#own + 1] = slots[i] end
    end
    in_batches('HDEL', P .. 'c:' .. name, own)
  end
  return #joined
end

-- Returns their number, and each session with its entry after it.
local function release_sessions(whose, most)
  local sessions = redis.call('SPOP', P .. 'h:sessions:' .. whose, most)
  local own, cursors, entries = {}, {}, {}
  for i, found in ipairs(read_in_batches(P .. 'sessions', sessions)) do
    local owner, cursor
    if found then owner, cursor = split(found) end
    if owner == whose then own[#own + 1], cursors[#cursors + 1] = sessions[i], cursor end
  end
  for i, entry in ipairs(read_in_batches(P .. 'entries', cursors)) do
    if entry then entries[#entries + 1], entries[#entries + 2] = own[i], entry end
  end
  in_batches('ZREM', P .. 'list', cursors)
  in_batches('HDEL', P .. 'entries', cursors)
  in_batches('HDEL', P .. 'sessions', own)
  return #sessions, entries
end

-- Releases so many slots, marks and sessions at most.  Returns their number, and the sessions with entries.
-- A holder that has more has no lease from then on: a call of its process makes it register.
local function release(whose, most)
  local slots, marks = release_slots(whose, most), release_marks(whose, most)
  local sessions, entries = release_sessions(whose, most)
  if math.max(slots, marks, sessions) < most then
    release_tasks(whose)
    redis.call('ZREM', P .. 'holders', whose)
  else
    redis.call('ZADD', P .. 'holders', 0, whose)
  end
  return slots + marks + sessions, entries
end

local function forget_lost(whose)
  redis.call('DEL', P .. 'lost:' .. whose)
  redis.call('DEL', P .. 'claimed:' .. whose)
  redis.call('ZREM', P .. 'lost', whose)
end

-- As ``release``, and keeps the sessions for the process that reclaims them.
local function bury(whose, most)
  local count, entries = release(whose, most)
  redis.call('DEL', P .. 'commands:' .. whose)
  in_batches('HSET', P .. 'lost:' .. whose, entries)
  if #entries > 0 then redis.call('ZADD', P .. 'lost', text(now + RETENTION), whose) end
  return count
end

local function begin_registration()
  ready = now + REGISTRATION
  redis.call('HSET', P .. 'origin', 'ready', text(ready))
end

-- While processes register, a lease that is over does not mean that its process is dead.
local function is_registering()
  return ready > now and ready <= now + REGISTRATION
end

local function expire()
  -- Written before the server's clock was set back; the process may live:
  for _, whose in ipairs(redis.call('ZRANGEBYSCORE', P .. 'holders', '(' .. text(now + 2 * LEASE), '+inf')) do
    redis.call('ZADD', P .. 'holders', text(now + LEASE), whose)
  end
  if is_registering() then return false end
  local dead = redis.call('ZRANGEBYSCORE', P .. 'holders', '-inf', text(now), 'LIMIT', 0, SWEPT)
  local released = 0
  for _, whose in ipairs(dead) do
    if released >= PART then break end  -- the next calls release the rest
    released = released + bury(whose, PART)
  end
  return #dead > 0
end

-- Claims

local function full_at(name) return tonumber(redis.call('ZSCORE', P .. 'rates', name) or '0') end

local function spend(name, per_second, burst)
  local full, most = full_at(name), burst / per_second + 0.000001
  if full - now > most then full = now end
  local after = math.max(full, now) + 1 / per_second
  if after - now <= most then return after end
  return nil
end

-- A claim has six arguments: its kind, its name (a digest for a mark), and four values.
local function refused(slot, first, count)
  for i = 0, count - 1 do
    local at = first + 6 * i
    local kind, name, a, b, c = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
    if kind == 'slot' then
      local key = P .. 'c:' .. name
      if redis.call('HEXISTS', key, slot) == 0 and redis.call('HLEN', key) >= tonumber(a) then
        return i + 1, 0
      end
    elseif kind == 'rate' then
      if not spend(name, tonumber(a), tonumber(b)) then return i + 1, 0 end
    else
      local mark, stored = taken_mark(name, a, b, c, slot)
      if not mark then return i + 1, (stored and stored.holder ~= '') and 1 or 0 end
    end
  end
  return 0, 0
end

local function take(slot, first, count, really)
  local refusal, in_use = refused(slot, first, count)
  if refusal > 0 and expire() then refusal, in_use = refused(slot, first, count) end
  local marks = {}
  if refusal > 0 or not really then return {refusal, in_use, marks} end
  for i = 0, count - 1 do
    local at = first + 6 * i
    local kind, name, a, b, c = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
    if kind == 'slot' then
      add_slot(name, slot)
    elseif kind == 'rate' then
      redis.call('ZADD', P .. 'rates', text(spend(name, tonumber(a), tonumber(b))), name)
    else
      local m = taken_mark(name, a, b, c, slot)
      write_mark(name, m)
      marks[#marks + 1] = {name, tostring(m.count), m.expires, m.reuse, m.ends}
    end
  end
  return {refusal, in_use, marks}
end
"""
