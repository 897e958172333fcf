-- Puts messages that were taken off back on their queue, where the next consumer takes them first.
--
-- KEYS  1 the queue (a list)   2 the copies (a list)   3 the queue's totals (a hash)
--       4 its counts by minute (a hash)
-- ARGV  1 the minute of the hour   2 seconds after which KEYS[4] may be forgotten
-- Gives how many were put back.
--
-- What can fail is done first: a script that fails half-way keeps what it wrote.

redis.call('LLEN', KEYS[1])
redis.call('HLEN', KEYS[3])
redis.call('HLEN', KEYS[4])

local count = redis.call('LLEN', KEYS[2])
if count == 0 then
  return 0
end
redis.call('HINCRBY', KEYS[3], 'put_back', count)
redis.call('HINCRBY', KEYS[4], 'put_back:' .. ARGV[1], count)
for _ = 1, count do
  redis.call('RPUSH', KEYS[1], redis.call('LPOP', KEYS[2]))
end
redis.call('HSET', KEYS[4], 'depth:' .. ARGV[1], redis.call('LLEN', KEYS[1]))
redis.call('EXPIRE', KEYS[4], ARGV[2])
return count
