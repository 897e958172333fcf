-- Puts messages that were taken off back on their queue. The next consumer takes them first.
--
-- KEYS  1 the queue (a list)   2 the copies (a list)   3 the queue's totals (a hash)
--       4 its counts by minute (a hash)
-- ARGV  1 the minute of the hour   2 seconds after which KEYS[4] may be forgotten
-- Gives how many were put back.
--
-- Nothing is done if a command is refused: see push.lua.

local function must(...)
  if not redis.acl_check_cmd(...) then
    error(redis.error_reply('NOPERM this account may not use ' .. ...))
  end
end
must('LMOVE', KEYS[2], KEYS[1], 'LEFT', 'RIGHT')
must('HINCRBY', KEYS[3], '', 1)
must('HINCRBY', KEYS[4], '', 1)
must('HSET', KEYS[4], '', '')
must('EXPIRE', KEYS[4], 1)
local function must_be_a_count(text)
  if text and not (text:find('^%d+$') and #text < 16 and (text == '0' or text:byte() ~= 48)) then
    error(redis.error_reply('ERR a count is no number'))
  end
end
must_be_a_count(redis.call('HGET', KEYS[3], 'put_back'))
must_be_a_count(redis.call('HGET', KEYS[4], 'put_back:' .. ARGV[1]))

local depth = redis.call('LLEN', KEYS[1])
local count = redis.call('LLEN', KEYS[2])
if count == 0 then
  return 0
end
for _ = 1, count do
  redis.call('LMOVE', KEYS[2], KEYS[1], 'LEFT', 'RIGHT')
end
redis.call('HINCRBY', KEYS[3], 'put_back', count)
redis.call('HINCRBY', KEYS[4], 'put_back:' .. ARGV[1], count)
redis.call('HSET', KEYS[4], 'depth:' .. ARGV[1], depth + count)
redis.call('EXPIRE', KEYS[4], ARGV[2])
return count
