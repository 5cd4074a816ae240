"""What the broker does at one go. Times are the broker's own: hosts may disagree about theirs.

Keys are made inside the scripts, which a cluster would not allow; Celery's transport rules out
clusters anyway.
"""

_NOW = """
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1e6
"""

# KEYS: workers. ARGV: this worker, seconds after which another counts as dead.
BEAT = (
    _NOW
    + """
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
return tostring(now)
"""
)

# KEYS: workers. ARGV: seconds of silence. Returns how many live.
LIVING = (
    _NOW
    + """
return redis.call('ZCOUNT', KEYS[1], now - ARGV[1], '+inf')
"""
)

# KEYS: request, clicks. ARGV: worker, seconds of clicks, a token of this call, milliseconds that a
# request outlives its deadline by. Returns how many milliseconds are left until the deadline where
# it is this call's now, also if the client says it again, because the answer was lost; else 0.
TAKE = """
local left = redis.call('PTTL', KEYS[1]) - ARGV[4]
if left <= 0 then return 0 end
if redis.call('HSETNX', KEYS[1], 'taken_by', ARGV[1]) == 1 then
  redis.call('HSET', KEYS[1], 'token', ARGV[3])
end
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[3] then return 0 end
redis.call('SET', KEYS[2], 1, 'EX', ARGV[2])
return left
"""

# KEYS: workers, queue. ARGV: seconds of silence, prefix of requests, ids. Returns a word for each:
# held (a living worker has it), lost (its worker is dead), queued, unheard (nobody has it and no
# message is waiting), gone (the broker does not know it: answered, or emptied).
LOOK = (
    _NOW
    + """
local queued = redis.call('LLEN', KEYS[2]) > 0
local words = {}
for i = 3, #ARGV do
  local request = ARGV[2] .. ARGV[i]
  local worker = redis.call('HGET', request, 'taken_by')
  if worker then
    local beat = redis.call('ZSCORE', KEYS[1], worker)
    words[#words + 1] = (beat and beat + ARGV[1] >= now) and 'held' or 'lost'
  elseif redis.call('EXISTS', request) == 0 then words[#words + 1] = 'gone'
  else words[#words + 1] = queued and 'queued' or 'unheard' end
end
return words
"""
)

# A shelf: KEYS[1] is its index (sorted set of names by last use), KEYS[2] the bytes of each (hash,
# with their sum under ''), and KEYS[3] begins the keys of its things (hashes of mark and data).
_SHELF = (
    _NOW
    + """
local index, sizes, things = KEYS[1], KEYS[2], KEYS[3]
local function drop(name)
  local bytes = redis.call('HGET', sizes, name)
  redis.call('UNLINK', things .. name)
  redis.call('ZREM', index, name)
  redis.call('HDEL', sizes, name)
  if bytes then redis.call('HINCRBY', sizes, '', -bytes) end
end
local function used(name, seconds)
  redis.call('ZADD', index, now, name)
  for _, key in ipairs({index, sizes, things .. name}) do redis.call('EXPIRE', key, seconds) end
end
"""
)

# ARGV: seconds, budget in bytes, name, mark, data, how many things there may be.
PUT = (
    _SHELF
    + """
local seconds, budget, name = ARGV[1], tonumber(ARGV[2]), ARGV[3]
drop(name)
for _, expired in ipairs(redis.call('ZRANGEBYSCORE', index, '-inf', now - seconds)) do
  drop(expired)
end
local bytes = #ARGV[5]
if bytes > budget then return 0 end
while tonumber(redis.call('HGET', sizes, '') or '0') + bytes > budget
    or redis.call('ZCARD', index) >= tonumber(ARGV[6]) do
  drop(redis.call('ZRANGE', index, 0, 0)[1])
end
redis.call('HSET', things .. name, 'mark', ARGV[4], 'data', ARGV[5])
redis.call('HSET', sizes, name, bytes)
redis.call('HINCRBY', sizes, '', bytes)
used(name, seconds)
return 1
"""
)

# ARGV: seconds, name. Returns the mark, or nil.
MARK = (
    _SHELF
    + """
local mark = redis.call('HGET', things .. ARGV[2], 'mark')
if mark then used(ARGV[2], ARGV[1]) end
return mark
"""
)

# KEYS: the generation, the set of cleared owners. ARGV: key id, seconds to remember, prefixes of
# shelves. Whatever is kept for the key is gone when this returns.
CLEAR = (
    _NOW
    + """
local generation = redis.call('GETDEL', KEYS[1])
if not generation then return 0 end
local owner = ARGV[1] .. '.' .. generation
for i = 3, #ARGV do
  local shelf = ARGV[i] .. owner
  for _, name in ipairs(redis.call('ZRANGE', shelf .. ':index', 0, -1)) do
    redis.call('UNLINK', shelf .. ':' .. name)
  end
  redis.call('UNLINK', shelf .. ':index', shelf .. ':sizes')
end
redis.call('ZADD', KEYS[2], now, owner)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[2])
return 1
"""
)
