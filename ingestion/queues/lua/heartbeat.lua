#!lua flags=allow-oom
-- Renews a consumer's lease, by the store's own clock, and says which others must be reaped.
--
-- KEYS  1 the leases (a sorted set)   2 the consumers (a hash)
-- ARGV  1 the consumer's name   2 milliseconds for which the lease holds
--       3 what the consumer says of itself, as JSON
-- Gives the names of consumers whose lease has run out. Gives none if this consumer had no lease:
--       it is new, or the others could not renew theirs either because of an outage.
--
-- Nothing is done if a command is refused: see push.lua.

local function must(...)
  if not redis.acl_check_cmd(...) then
    error(redis.error_reply('NOPERM this account may not use ' .. ...))
  end
end
must('ZADD', KEYS[1], 0, '')
must('HSET', KEYS[2], '', '')

local HOUR = 3600000 -- give_back.lua remembers an ended consumer for this long

redis.call('HLEN', KEYS[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local before = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 0)
local lapsed = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 100)
-- A lease that ends later than one that is renewed now was made before the clock was set back.
-- Shorten it to the end of a lease that is renewed now. Otherwise a dead consumer would be treated
-- as alive for as long as the clock was set back.
local latest = '(' .. now + ARGV[2]
local late = redis.call('ZREVRANGEBYSCORE', KEYS[1], '+inf', latest, 'LIMIT', 0, 100)
local ends = {}
for at, name in ipairs(late) do
  local known, says = pcall(cjson.decode, redis.call('HGET', KEYS[2], name) or '')
  local seconds = known and type(says) == 'table' and tonumber(says.lease_seconds)
  ends[at] = now + (seconds and seconds > 0 and seconds * 1000 or HOUR)
end

redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
for at, name in ipairs(late) do
  if name ~= ARGV[1] then
    redis.call('ZADD', KEYS[1], 'XX', 'LT', ends[at], name)
  end
end
if before <= now then
  return {}
end
return lapsed
