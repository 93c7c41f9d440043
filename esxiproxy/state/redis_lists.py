"""The Lua of items, sessions and commands, and the whole script with its calls.

Its keys, besides those of :mod:`redis_claims`:

    i:SPACE, k:SPACE, items the values of a space, their keys in order, and the expiry of all
    list, entries, sessions the cursors of the sessions in order, their entries, and their holders
    lost:HOLDER, lost       the sessions of a dead holder, and until when they are kept
    claimed:HOLDER          the process that reads them now, and for a day the one that has read them
    leaders                 the holder that leads a task
    commands:HOLDER         the commands that a holder has not read yet
"""

from esxiproxy.state.lease import LEASE, LOST_SESSION_RETENTION
from esxiproxy.state.redis_claims import CLAIMS, REGISTRATION, SCHEMA_VERSION, SERVER_TIME

CONFIRMATION = 10.0
"""Seconds for which the sessions of a dead holder are reserved for the process that has read them."""

PART = 2000
"""Maximum number of slots, of marks and of sessions of a dead holder that one call releases."""

_BEGIN = f"""
local P, op, holder = KEYS[1], ARGV[1], ARGV[2]
local LEASE, RETENTION, REGISTRATION, SWEPT = {LEASE}, {LOST_SESSION_RETENTION}, {REGISTRATION}, 500
local CONFIRMATION, BATCH, PART, ALL = {CONFIRMATION}, 1000, {PART}, 1000000000
local SCHEMA = '{SCHEMA_VERSION}'
local now = clock()
local since, ready, newest
"""

_LISTS = """
local function publish(session, cursor, entry)
  withdraw(session, holder)
  redis.call('HSET', P .. 'sessions', session, holder .. '\\n' .. cursor)
  redis.call('ZADD', P .. 'list', 0, cursor)
  redis.call('HSET', P .. 'entries', cursor, entry)
  redis.call('SADD', P .. 'h:sessions:' .. holder, session)
end

local function remove_item(space, key)
  redis.call('HDEL', P .. 'i:' .. space, key)
  redis.call('ZREM', P .. 'k:' .. space, key)
  redis.call('ZREM', P .. 'items', space .. '\\n' .. key)
end

local function get_item(space, key)
  local expires = redis.call('ZSCORE', P .. 'items', space .. '\\n' .. key)
  if not expires or tonumber(expires) <= now then return false end
  return redis.call('HGET', P .. 'i:' .. space, key)
end

local function list_items(space, after, most)
  local found, from = {}, '(' .. after
  while #found < 2 * most do
    local keys = redis.call('ZRANGEBYLEX', P .. 'k:' .. space, from, '+', 'LIMIT', 0, most)
    for _, key in ipairs(keys) do
      local value = get_item(space, key)
      if value and #found < 2 * most then
        found[#found + 1], found[#found + 2] = key, value
      end
    end
    if #keys < most then break end
    from = '(' .. keys[#keys]
  end
  return found
end

-- Deletes what has expired, so many of each kind that the script stays short.
local function sweep()
  redis.call('ZREMRANGEBYSCORE', P .. 'rates', '-inf', text(now))
  for _, digest in ipairs(redis.call('ZRANGEBYSCORE', P .. 'marks', '-inf', text(now), 'LIMIT', 0, SWEPT)) do
    redis.call('DEL', P .. 'm:' .. digest)
    redis.call('ZREM', P .. 'marks', digest)
  end
  for _, joined in ipairs(redis.call('ZRANGEBYSCORE', P .. 'items', '-inf', text(now), 'LIMIT', 0, SWEPT)) do
    remove_item(split(joined))
  end
  for _, whose in ipairs(redis.call('ZRANGEBYSCORE', P .. 'lost', '-inf', text(now), 'LIMIT', 0, SWEPT)) do
    forget_lost(whose)
  end
end

local position = 2
local function next()
  position = position + 1
  return ARGV[position]
end

local function restore()
  for _ = 1, tonumber(next()) do
    local session, cursor = next(), next()
    publish(session, cursor, next())
  end
end

-- Makes the sessions of this holder those that follow.
local function restore_sessions()
  local wanted, owners, cursors, entries, names = {}, {}, {}, {}, {}
  for _ = 1, tonumber(next()) do
    local session, cursor, entry = next(), next(), next()
    wanted[session], names[#names + 1] = true, session
    owners[#owners + 1], owners[#owners + 2] = session, holder .. '\\n' .. cursor
    cursors[#cursors + 1], cursors[#cursors + 2] = 0, cursor
    entries[#entries + 1], entries[#entries + 2] = cursor, entry
  end
  for _, session in ipairs(redis.call('SMEMBERS', P .. 'h:sessions:' .. holder)) do
    if not wanted[session] then withdraw(session, holder) end
  end
  in_batches('HSET', P .. 'sessions', owners)
  in_batches('ZADD', P .. 'list', cursors)
  in_batches('HSET', P .. 'entries', entries)
  in_batches('SADD', P .. 'h:sessions:' .. holder, names)
end

local calls = {}

-- ``seen`` is the time of the last reply that this process had from another server, or 0.  Every process had
-- a lease of LEASE / 2 at least then, so that a copy without such leases was made before, and lacks writes.
local function note_server(server, seen)
  local origin = redis.call('HMGET', P .. 'origin', 'server', 'copy', 'newest', 'changed')
  local newest_of_copy, changed = origin[2] == server and origin[3], origin[4]
  -- Another server, or one that was restarted, may lack the last writes: all processes have a new connection.
  if origin[1] ~= server then
    newest_of_copy, changed = newest or '0', text(now)
    redis.call('HSET', P .. 'origin', 'server', server, 'copy', server, 'newest', newest_of_copy,
      'changed', changed)
    begin_registration()
  end
  if not newest_of_copy or seen + LEASE / 3 <= tonumber(newest_of_copy) then return end
  since = changed
  redis.call('HDEL', P .. 'origin', 'newest')
  redis.call('HSET', P .. 'origin', 'since', since)
  begin_registration()
  -- These sessions may have ended since, or are recorded as lost.  Living processes register theirs.
  local stale = '(' .. text(tonumber(changed) + LEASE - 1)
  for _, whose in ipairs(redis.call('ZRANGEBYSCORE', P .. 'holders', '-inf', stale)) do
    release_sessions(whose, ALL)
  end
  for _, whose in ipairs(redis.call('ZRANGE', P .. 'lost', 0, -1)) do forget_lost(whose) end
end

function calls.register()
  local had = tonumber(redis.call('ZSCORE', P .. 'holders', holder) or 0) > 0 and 1 or 0
  local server, seen = next(), tonumber(next())
  if server ~= '' then note_server(server, seen) end
  give_marks(next)
  release_marks(holder, ALL)
  release_tasks(holder)
  forget_lost(holder)
  redis.call('ZADD', P .. 'holders', text(now + LEASE), holder)
  restore_slots(next)
  restore_marks(next)
  restore_sessions()
  return had
end

function calls.renew()
  redis.call('ZADD', P .. 'holders', text(now + LEASE), holder)
  expire()
  sweep()
  return 0
end

function calls.stop()
  give_marks(next)
  release(holder, ALL)
  redis.call('DEL', P .. 'commands:' .. holder)
  return 0
end

function calls.write()
  give_marks(next)
  for _ = 1, tonumber(next()) do
    local slot = next()
    for _ = 1, tonumber(next()) do release_slot(next(), slot, holder) end
  end
  restore()
  for _ = 1, tonumber(next()) do withdraw(next(), holder) end
  return 0
end

function calls.take() return take(ARGV[3], 5, tonumber(ARGV[4]), true) end

function calls.look()
  expire()
  return take('', 5, tonumber(ARGV[4]), false)
end

function calls.in_use()
  expire()
  local counts = {}
  for i = 3, #ARGV do counts[#counts + 1] = redis.call('HLEN', P .. 'c:' .. ARGV[i]) end
  return counts
end

function calls.put()
  local space, key, value, expires, new, before = next(), next(), next(), next(), next(), next()
  if string.sub(expires, 1, 1) == '+' then expires = text(now + tonumber(expires)) end
  if new == '1' and get_item(space, key) then return 0 end
  if before and get_item(space, key) ~= before then return 0 end
  redis.call('HSET', P .. 'i:' .. space, key, value)
  redis.call('ZADD', P .. 'k:' .. space, 0, key)
  redis.call('ZADD', P .. 'items', expires, space .. '\\n' .. key)
  return 1
end

function calls.get() return get_item(ARGV[3], ARGV[4]) end

function calls.pop()
  local found = get_item(ARGV[3], ARGV[4])
  remove_item(ARGV[3], ARGV[4])
  return found
end

function calls.remove()
  remove_item(ARGV[3], ARGV[4])
  return 0
end

function calls.items() return list_items(ARGV[3], ARGV[4], tonumber(ARGV[5])) end

function calls.lead()
  expire()
  redis.call('HSETNX', P .. 'leaders', ARGV[3], holder)
  return redis.call('HGET', P .. 'leaders', ARGV[3]) == holder and 1 or 0
end

function calls.sessions()
  expire()
  local from = ARGV[3] == '' and '-' or '(' .. ARGV[3]
  local cursors = redis.call('ZRANGEBYLEX', P .. 'list', from, '+', 'LIMIT', 0, ARGV[4])
  if #cursors == 0 then return cursors end
  return redis.call('HMGET', P .. 'entries', unpack(cursors))
end

-- The sessions of a dead holder, which are kept until the caller has confirmed that it has them.
local function read_lost(whose)
  if redis.call('EXISTS', P .. 'lost:' .. whose) == 0 then return {} end
  local claimed = redis.call('HMGET', P .. 'claimed:' .. whose, 'holder', 'until')
  if claimed[1] and claimed[1] ~= holder and now < tonumber(claimed[2]) then return {} end
  redis.call('HSET', P .. 'claimed:' .. whose, 'holder', holder, 'until', text(now + CONFIRMATION))
  return redis.call('HVALS', P .. 'lost:' .. whose)
end

function calls.reclaim()
  bury(ARGV[3], ALL)
  return read_lost(ARGV[3])
end

function calls.reclaim_expired()
  expire()
  local latest = text(now + RETENTION - tonumber(ARGV[3]))
  local dead = redis.call('ZRANGEBYSCORE', P .. 'lost', '-inf', latest, 'LIMIT', 0, SWEPT)
  for _, whose in ipairs(dead) do
    local entries = read_lost(whose)
    if #entries > 0 then return {whose, entries} end
  end
  return {'', {}}
end

-- Whether the caller has the sessions: another process may have read them since, or the holder may be back.
function calls.reclaimed()
  local whose = ARGV[3]
  if redis.call('HGET', P .. 'claimed:' .. whose, 'holder') ~= holder then return 0 end
  redis.call('DEL', P .. 'lost:' .. whose)
  redis.call('ZREM', P .. 'lost', whose)
  redis.call('EXPIRE', P .. 'claimed:' .. whose, RETENTION)
  return 1
end

function calls.tell()
  expire()
  local found, holders = redis.call('HGET', P .. 'sessions', ARGV[4]), {}
  if ARGV[5] == '1' then
    holders = redis.call('ZRANGE', P .. 'holders', 0, -1)
  elseif found then
    holders = {(split(found))}
  end
  for _, whose in ipairs(holders) do redis.call('RPUSH', P .. 'commands:' .. whose, ARGV[3]) end
  return #holders
end

function calls.commands()
  expire()
  local found = redis.call('LRANGE', P .. 'commands:' .. holder, 0, -1)
  redis.call('DEL', P .. 'commands:' .. holder)
  return found
end

local schema = redis.call('GET', P .. 'schema')
if schema and schema ~= SCHEMA then return {'schema', schema} end
local origin = redis.call('HMGET', P .. 'origin', 'since', 'ready')
since, ready = origin[1], tonumber(origin[2] or '0')
if not since or not schema then
  since = text(now)
  redis.call('SET', P .. 'schema', SCHEMA)
  redis.call('HSET', P .. 'origin', 'since', since)
  begin_registration()
end
-- No process has renewed its lease for long: this server hung or was cut off, or its clock was set forward.
-- Those whose leases are over live, or most of them.
newest = redis.call('ZREVRANGE', P .. 'holders', 0, 0, 'WITHSCORES')[2]
if newest and tonumber(newest) < now + LEASE / 2 then begin_registration() end
if op ~= 'register' and op ~= 'stop' then
  local lease = redis.call('ZSCORE', P .. 'holders', holder)
  lease = tonumber(lease or 0)
  if lease == 0 then return {'register', since} end
  -- With any call, so that all have renewed when a registration ends:
  if lease < now + LEASE / 2 or lease > now + 2 * LEASE then
    redis.call('ZADD', P .. 'holders', text(now + LEASE), holder)
  end
end
if (op == 'take' or op == 'look') and is_registering() then return {'wait', since} end
local value = calls[op]()
return {'ok', since, value, text(now)}
"""


def script(clock: str = SERVER_TIME) -> str:
    """Return the script.  ``clock`` is the Lua function that returns the time."""
    return f"{clock}{_BEGIN}{CLAIMS}{_LISTS}"


SCRIPT = script()
