-- Removes given messages from the dead letters: back to their queue, or for good.
--
-- KEYS  1 the dead letters (a list)   2 their reasons (a hash)   3 the queue (a list)
-- ARGV  1 'put_back': they are taken next and get all attempts again; or 'discard'
--       2 -1 to search from the oldest dead letter on, 1 from the newest
--       3… the messages, the oldest first
-- Gives how many were still there.
--
-- Nothing is done if a command is refused: see push.lua.

local function must(...)
  if not redis.acl_check_cmd(...) then
    error(redis.error_reply('NOPERM this account may not use ' .. ...))
  end
end
must('LREM', KEYS[1], 0, '')
must('HDEL', KEYS[2], '')
must('RPUSH', KEYS[3], '')

redis.call('LLEN', KEYS[1])
redis.call('HLEN', KEYS[2])
redis.call('LLEN', KEYS[3])

local settled = 0
for at = #ARGV, 3, -1 do
  if redis.call('LREM', KEYS[1], ARGV[2], ARGV[at]) > 0 then
    redis.call('HDEL', KEYS[2], redis.sha1hex(ARGV[at]))
    if ARGV[1] == 'put_back' then
      redis.call('RPUSH', KEYS[3], ARGV[at])
    end
    settled = settled + 1
  end
end
return settled
