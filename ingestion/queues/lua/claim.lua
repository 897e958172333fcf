#!lua flags=allow-oom
-- Fills up what a consumer holds from the queue, oldest first, and gives it.
--
-- KEYS  1 the queue (a list)   2 what the consumer holds (a list)   3 the queue's pause (a string)
--       4 the attempts (a hash)   5 the consumers (a hash)
-- ARGV  1 the consumer's name   2 how many messages at most
-- Gives {'claimed', messages, attempts}: the oldest that it holds, and how often each failed before;
--       {'paused', the pause} or {'unknown'}, a consumer that must say first who it is: nothing was
--       moved then.
--
-- What an earlier claim moved and whose answer was lost is given again. A message that failed
-- before is given alone, so that it can take no other one with it.
--
-- allow-oom: a store at its memory limit refuses LMOVE, and the consumers are who empties it.

if redis.call('HEXISTS', KEYS[5], ARGV[1]) == 0 then
  return {'unknown'}
end
local pause = redis.call('GET', KEYS[3])
if pause then
  return {'paused', pause}
end

local any_failed = redis.call('HLEN', KEYS[4]) > 0
local function failures(message)
  if not message or not any_failed then
    return 0
  end
  return tonumber(redis.call('HGET', KEYS[4], redis.sha1hex(message)) or 0)
end

local count = tonumber(ARGV[2])
local held = redis.call('LLEN', KEYS[2])
local alone = failures(redis.call('LINDEX', KEYS[2], 0)) > 0
while held < count and not alone do
  local message = redis.call('LINDEX', KEYS[1], -1)
  alone = failures(message) > 0
  if not message or (alone and held > 0) then
    break
  end
  redis.call('LMOVE', KEYS[1], KEYS[2], 'RIGHT', 'LEFT')
  held = held + 1
end

local messages = {}
local attempts = {}
local newest_first = redis.call('LRANGE', KEYS[2], -count, -1)
for at = #newest_first, 1, -1 do
  table.insert(messages, newest_first[at])
  table.insert(attempts, failures(newest_first[at]))
end
return {'claimed', messages, attempts}
