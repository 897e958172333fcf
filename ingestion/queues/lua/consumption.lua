-- Who takes from a queue, what they hold, and how many dead letters there are. Only reads.
--
-- KEYS  1 the leases (a sorted set)   2 the consumers (a hash)   3 the dead letters (a list)
--       4 the beginning of the names of the lists that consumers hold. It is not a key, but it is
--         passed as one, because those lists are in the same slot of a cluster.
-- Gives {the time in milliseconds, how many dead letters, consumers}. A consumer is
--       {name, what it says of itself, millisecond at which its lease ends, how many it holds}.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local consumers = {}
local leases = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for at = 1, #leases, 2 do
  local said = redis.call('HGET', KEYS[2], leases[at]) or ''
  local held = redis.call('LLEN', KEYS[4] .. leases[at])
  if said ~= '' or held > 0 then
    table.insert(consumers, {leases[at], said, tonumber(leases[at + 1]), held})
  end
end
return {now, redis.call('LLEN', KEYS[3]), consumers}
