-- Takes given messages off a queue and keeps a copy where they can be put back from.
--
-- KEYS  1 the queue (a list)   2 where the copies go (a list)   3 the queue's totals (a hash)
--       4 its counts by minute (a hash)
-- ARGV  1 the minute of the hour   2 seconds after which KEYS[4] may be forgotten
--       3 seconds to keep the copies   4 -1 to look from the oldest message on, 1 from the newest
--       5… the messages, the oldest first
-- Gives how many were still on the queue, and are off it now.

redis.call('LLEN', KEYS[1])
redis.call('LLEN', KEYS[2])
redis.call('HLEN', KEYS[3])
redis.call('HLEN', KEYS[4])

local taken = 0
for at = 5, #ARGV do
  if redis.call('LREM', KEYS[1], ARGV[4], ARGV[at]) > 0 then
    redis.call('LPUSH', KEYS[2], ARGV[at])
    taken = taken + 1
  end
end
if taken > 0 then
  redis.call('EXPIRE', KEYS[2], ARGV[3])
  redis.call('HINCRBY', KEYS[3], 'taken_off', taken)
  redis.call('HINCRBY', KEYS[4], 'taken_off:' .. ARGV[1], taken)
  redis.call('EXPIRE', KEYS[4], ARGV[2])
end
return taken
