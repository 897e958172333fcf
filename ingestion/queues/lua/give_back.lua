#!lua flags=allow-oom
-- Puts all messages that a consumer holds back on its queue, in their order, to be taken next.
--
-- KEYS  1 the queue (a list)   2 what the consumer holds (a list)   3 the leases (a sorted set)
--       4 the consumers (a hash)   5 the attempts (a hash)   6 the dead letters (a list)
--       7 their reasons (a hash)
-- ARGV  1 the consumer's name
--       2 'stay'; 'leave': the consumer ends; 'reap': it is treated as dead if its lease ran out
--       3 why the attempt failed, or '' if there was no attempt to count
--       4 how many failed attempts make a dead letter
--       5 seconds after the last failed attempt at any message after which they may be forgotten
-- Gives {how many are on the queue again, how many became dead letters}.
--
-- Nothing is done if a command is refused: see push.lua. After each step each message is in a list.

local function must(...)
  if not redis.acl_check_cmd(...) then
    error(redis.error_reply('NOPERM this account may not use ' .. ...))
  end
end
must('LINDEX', KEYS[2], -1)
must('LMOVE', KEYS[2], KEYS[1], 'LEFT', 'RIGHT')
must('LMOVE', KEYS[2], KEYS[2], 'RIGHT', 'LEFT')
must('LMOVE', KEYS[2], KEYS[6], 'RIGHT', 'LEFT')
must('ZADD', KEYS[3], 0, '')
must('ZREM', KEYS[3], '')
must('HDEL', KEYS[4], '')
must('HGET', KEYS[5], '')
must('HSET', KEYS[5], '', '')
must('HDEL', KEYS[5], '')
must('EXPIRE', KEYS[5], 1)
must('HSET', KEYS[7], '', '')

for _, key in ipairs({KEYS[1], KEYS[2], KEYS[6]}) do
  redis.call('LLEN', key)
end
for _, key in ipairs({KEYS[4], KEYS[5], KEYS[7]}) do
  redis.call('HLEN', key)
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease = redis.call('ZSCORE', KEYS[3], ARGV[1])
if ARGV[2] == 'reap' and (not lease or tonumber(lease) > now) then
  return {0, 0}
end

local held = redis.call('LLEN', KEYS[2])
local dead = 0
if ARGV[3] ~= '' and held > 0 then
  -- One round, the oldest first: each message goes to the dead letters, or to its old place.
  for _ = 1, held do
    local message = redis.call('LINDEX', KEYS[2], -1)
    local id = redis.sha1hex(message)
    local attempts = (tonumber(redis.call('HGET', KEYS[5], id) or 0) or 0) + 1
    if attempts >= tonumber(ARGV[4]) then
      local why = {reason = ARGV[3], attempts = attempts, died_at_ms = now}
      redis.call('HSET', KEYS[7], id, cjson.encode(why))
      redis.call('HDEL', KEYS[5], id)
      redis.call('LMOVE', KEYS[2], KEYS[6], 'RIGHT', 'LEFT')
      dead = dead + 1
    else
      redis.call('HSET', KEYS[5], id, attempts)
      redis.call('LMOVE', KEYS[2], KEYS[2], 'RIGHT', 'LEFT')
    end
  end
  redis.call('EXPIRE', KEYS[5], ARGV[5])
end
for _ = 1, held - dead do
  redis.call('LMOVE', KEYS[2], KEYS[1], 'LEFT', 'RIGHT')
end

if ARGV[2] ~= 'stay' then
  -- A claim of an ended consumer may still arrive: it is on its way, or its process was only
  -- suspended. So the consumer is checked once more in an hour, and then forgotten.
  if redis.call('HDEL', KEYS[4], ARGV[1]) == 1 then
    redis.call('ZADD', KEYS[3], now + 3600000, ARGV[1])
  else
    redis.call('ZREM', KEYS[3], ARGV[1])
  end
end
return {held - dead, dead}
