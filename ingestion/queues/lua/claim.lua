#!lua flags=allow-oom
-- Moves messages from the queue to a consumer, the oldest first, and gives what it holds.
--
-- KEYS  1 the queue (a list)   2 what the consumer holds (a list)   3 the queue's pause (a string)
--       4 the attempts (a hash)   5 the consumers (a hash)
-- ARGV  1 the consumer's name   2 how many messages at most
-- Gives {'claimed', messages, attempts}: the oldest that it holds, and how often each has failed;
--       {'paused', the pause}; or {'unknown'} if the consumer must first say who it is. Nothing was
--       moved in the last two cases.
--
-- Messages that an earlier claim moved are given again if its answer was lost. A message that
-- failed before is given alone, so that no other message can fail because of it.
--
-- allow-oom: a store at its memory limit refuses LMOVE, but only consumers can empty it.

if redis.call('HEXISTS', KEYS[5], ARGV[1]) == 0 then
  return {'unknown'}
end
local pause = redis.call('GET', KEYS[3])
if pause then
  return {'paused', pause}
end

local any_failed = redis.call('HLEN', KEYS[4]) > 0
local function failures(message)
  return any_failed and tonumber(redis.call('HGET', KEYS[4], redis.sha1hex(message)) or 0) or 0
end

local count = tonumber(ARGV[2])
local messages = {}
local attempts = {}
local function give(message, failed)
  table.insert(messages, message)
  table.insert(attempts, failed)
end

local held = redis.call('LRANGE', KEYS[2], -count, -1)
for at = #held, 1, -1 do
  give(held[at], failures(held[at]))
end
local waiting = {}
if #held < count then
  waiting = redis.call('LRANGE', KEYS[1], #held - count, -1)
end
for at = #waiting, 1, -1 do
  local failed = failures(waiting[at])
  if #messages > 0 and (failed > 0 or attempts[#attempts] > 0) then
    break
  end
  give(waiting[at], failed)
end

-- Everything has been read now, and these are the only writes. If the account may not make them,
-- the first one is refused, and nothing was done.
for _ = #held + 1, #messages do
  redis.call('LMOVE', KEYS[1], KEYS[2], 'RIGHT', 'LEFT')
end
return {'claimed', messages, attempts}
