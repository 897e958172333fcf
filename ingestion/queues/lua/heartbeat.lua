#!lua flags=allow-oom
-- Renews a consumer's lease, by the store's own clock, and tells which others are to be reaped.
--
-- KEYS  1 the leases (a sorted set)   2 the consumers (a hash)
-- ARGV  1 the consumer's name   2 milliseconds for which the lease holds
--       3 what the consumer says of itself, as JSON
-- Gives the names of consumers whose lease has run out; none where this one's own was not running:
--       it is new, or there was an outage in which the others had no chance either.

redis.call('ZCARD', KEYS[1])
redis.call('HLEN', KEYS[2])

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local before = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 0)
local lapsed = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 100)
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
if before <= now then
  return {}
end
return lapsed
