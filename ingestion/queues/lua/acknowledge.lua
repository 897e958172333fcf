-- Lets go of messages that a consumer is done with.
--
-- KEYS  1 what the consumer holds (a list)   2 the attempts (a hash)
-- ARGV  1… the messages, the oldest first
-- Gives how many it still held. One that it no longer held is given to another consumer too, and
--       its attempts are still counted.
--
-- Nothing is done if a command is refused: see push.lua.

local function must(...)
  if not redis.acl_check_cmd(...) then
    error(redis.error_reply('NOPERM this account may not use ' .. ...))
  end
end
must('LREM', KEYS[1], 0, '')
must('HDEL', KEYS[2], '')

redis.call('LLEN', KEYS[1])
local any_failed = redis.call('HLEN', KEYS[2]) > 0
local done = 0
for at = 1, #ARGV do
  if redis.call('LREM', KEYS[1], -1, ARGV[at]) > 0 then
    done = done + 1
    if any_failed then
      redis.call('HDEL', KEYS[2], redis.sha1hex(ARGV[at]))
    end
  end
end
return done
