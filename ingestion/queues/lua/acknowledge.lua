-- Lets go of messages that a consumer is done with.
--
-- KEYS  1 what the consumer holds (a list)   2 the attempts (a hash)
-- ARGV  1… the messages, the oldest first
-- Gives how many it still held: one that it held no more is given to another consumer too.

redis.call('LLEN', KEYS[1])
local any_failed = redis.call('HLEN', KEYS[2]) > 0
local done = 0
for at = 1, #ARGV do
  done = done + redis.call('LREM', KEYS[1], -1, ARGV[at])
  if any_failed then
    redis.call('HDEL', KEYS[2], redis.sha1hex(ARGV[at]))
  end
end
return done
