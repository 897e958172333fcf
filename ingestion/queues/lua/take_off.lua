-- Takes given messages off a queue and keeps a copy where they can be put back from.
--
-- KEYS  1 the queue (a list)   2 where the copies go (a list)   3 the queue's totals (a hash)
--       4 its counts by minute (a hash)
-- ARGV  1 the minute of the hour   2 seconds after which KEYS[4] may be forgotten
--       3 seconds to keep the copies   4 the end to look from: 'oldest' or 'newest'
--       5 through how many messages to look, at most   6 a text that is no message
--       7… the messages, each as often as it is to be taken off
-- Gives how many were found, and are off the queue now.
--
-- A list can not lose what stands at a place, only what has a value, and that takes a walk through
-- it. So what is found is first overwritten with ARGV[6], and all of that goes in one walk.
--
-- What can fail is done first: a script that fails half-way keeps what it wrote.

redis.call('LLEN', KEYS[2])
redis.call('HLEN', KEYS[3])
redis.call('HLEN', KEYS[4])

local from_newest = ARGV[4] == 'newest'
local within = math.min(redis.call('LLEN', KEYS[1]), tonumber(ARGV[5]))

local wanted = {}
for at = 7, #ARGV do
  wanted[ARGV[at]] = (wanted[ARGV[at]] or 0) + 1
end

local missing = #ARGV - 6
local found = {}
for first = 0, within - 1, 1000 do
  if missing == 0 then
    break
  end
  local last = math.min(first + 999, within - 1)
  local lowest = from_newest and first or -last - 1
  local slice = redis.call('LRANGE', KEYS[1], lowest, from_newest and last or -first - 1)
  for step = 1, #slice do
    local at = from_newest and step or #slice + 1 - step
    local left = wanted[slice[at]]
    if left and left > 0 then
      wanted[slice[at]] = left - 1
      missing = missing - 1
      found[#found + 1] = {lowest + at - 1, slice[at]}
    end
  end
end
if #found == 0 then
  return 0
end

redis.call('HINCRBY', KEYS[3], 'taken_off', #found)
redis.call('HINCRBY', KEYS[4], 'taken_off:' .. ARGV[1], #found)
for _, one in ipairs(found) do
  -- The newest copy stands left, also where several calls take off under the same name, each
  -- further from the end that they look from.
  redis.call(from_newest and 'RPUSH' or 'LPUSH', KEYS[2], one[2])
  redis.call('LSET', KEYS[1], one[1], ARGV[6])
end
redis.call('LREM', KEYS[1], from_newest and #found or -#found, ARGV[6])
redis.call('EXPIRE', KEYS[2], ARGV[3])
redis.call('HSET', KEYS[4], 'depth:' .. ARGV[1], redis.call('LLEN', KEYS[1]))
redis.call('EXPIRE', KEYS[4], ARGV[2])
return #found
