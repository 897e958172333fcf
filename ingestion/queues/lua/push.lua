-- Judged records in: puts messages on a queue, counts, and remembers the answer, all or nothing.
--
-- KEYS  1 the queue (a list)             2 its totals (a hash)
--       3 its counts by minute (a hash)  4 its causes of rejection (a hash)
--       5 its latest rejections (a list) 6 its pause (a string)
--       7 what this request was answered before (a hash); read and written only with ARGV[6]
-- ARGV  1 the most messages that the queue may hold before this push
--       2 the minute of the hour: the field names in KEYS[3] end with it
--       3 seconds after which KEYS[3] and KEYS[4] may be forgotten
--       4 causes of rejection, as a JSON object of code and count
--       5 how many records were rejected
--       6 fingerprint of the request, or '' where no answer is to be remembered
--       7 the answer to remember        8 seconds to remember it
--       9 how many rejections follow    10 how many rejections are kept   11 seconds to keep them
--       12… the rejections, then the messages, in order
-- Gives {'pushed', place}, where place is how many messages had ever been pushed here before;
--       {'replayed', answer, place} or {'conflict'} if the request came before, the same or not;
--       {'paused', the pause} or {'full'}, and then nothing was done. With no ARGV at all it gives
--       {'allowed'} if a push would not be refused, and changes nothing.
--
-- All or nothing: Redis takes no write of a script back, so a command that is refused half-way
-- would leave what the ones before it wrote. Undoing that would take commands that may be refused
-- as well. So all that can be refused is asked or read before the first write: whether the account
-- may use each command on its key, whether each key is of its type, and whether what is counted up
-- is a number. Nothing can change in between, since a script runs alone, and for memory, disk and
-- replicas the store looks at the first write only. Should a write be refused all the same, then
-- the messages come first: they may be there twice in the end, but an answer is never remembered
-- for what is not there.

local function must(...)
  if not redis.acl_check_cmd(...) then
    error(redis.error_reply('NOPERM this account may not use ' .. ...))
  end
end
must('LPUSH', KEYS[1], '')
must('HINCRBY', KEYS[2], '', 1)
must('HINCRBY', KEYS[3], '', 1)
must('HSET', KEYS[3], '', '')
must('EXPIRE', KEYS[3], 1)

local minute = ARGV[2] or ''
local depth = redis.call('LLEN', KEYS[1])
local totals = redis.call('HMGET', KEYS[2], 'accepted', 'rejected')
local counts = redis.call('HMGET', KEYS[3], 'accepted:' .. minute, 'rejected:' .. minute)
local pause = redis.call('GET', KEYS[6])
if ARGV[5] ~= '0' then
  must('HINCRBY', KEYS[4], '', 1)
  must('EXPIRE', KEYS[4], 1)
  must('LPUSH', KEYS[5], '')
  must('LTRIM', KEYS[5], 0, 1)
  must('EXPIRE', KEYS[5], 1)
  redis.call('HLEN', KEYS[4])
  redis.call('LLEN', KEYS[5])
end
local before
if ARGV[6] ~= '' then
  must('HSET', KEYS[7], '', '')
  must('EXPIRE', KEYS[7], 1)
  before = redis.call('HMGET', KEYS[7], 'fingerprint', 'answer', 'place')
end
if #ARGV == 0 then
  return {'allowed'}
end

if before then
  if before[1] == ARGV[6] then
    -- A write, so that who must wait for a replica waits for what lies before it: the push of the
    -- first time. The store waits for the writes of the same connection alone.
    redis.call('EXPIRE', KEYS[7], ARGV[8])
    return {'replayed', before[2], tonumber(before[3])}
  elseif before[1] then
    return {'conflict'}
  end
end

local rejections = tonumber(ARGV[9])
local first = 12 + rejections
local accepted = #ARGV - first + 1
local rejected = tonumber(ARGV[5])

if accepted > 0 then
  if pause then
    return {'paused', pause}
  elseif depth >= tonumber(ARGV[1]) then
    return {'full'}
  end
end

-- As Redis reads them: digits, no zero before others, and room to count on.
local function must_be_a_count(text)
  if text and not (text:find('^%d+$') and #text < 16 and (text == '0' or text:byte() ~= 48)) then
    error(redis.error_reply('ERR a count is no number'))
  end
end
must_be_a_count(totals[1])
must_be_a_count(totals[2])
must_be_a_count(counts[1])
must_be_a_count(counts[2])
local causes = rejected > 0 and cjson.decode(ARGV[4]) or {}
for cause in pairs(causes) do
  must_be_a_count(redis.call('HGET', KEYS[4], cause))
end
local pushed = tonumber(totals[1] or 0)

-- In slices, since Lua can unpack only some thousand values at a time.
for from = first, #ARGV, 1000 do
  redis.call('LPUSH', KEYS[1], unpack(ARGV, from, math.min(from + 999, #ARGV)))
end
if before then
  redis.call('HSET', KEYS[7], 'fingerprint', ARGV[6], 'answer', ARGV[7], 'place', pushed)
  redis.call('EXPIRE', KEYS[7], ARGV[8])
end

if accepted > 0 then
  redis.call('HINCRBY', KEYS[2], 'accepted', accepted)
  redis.call('HINCRBY', KEYS[3], 'accepted:' .. minute, accepted)
end
if rejected > 0 then
  redis.call('HINCRBY', KEYS[2], 'rejected', rejected)
  redis.call('HINCRBY', KEYS[3], 'rejected:' .. minute, rejected)
  for cause, count in pairs(causes) do
    redis.call('HINCRBY', KEYS[4], cause, count)
  end
  redis.call('EXPIRE', KEYS[4], ARGV[3])
end
if rejections > 0 then
  redis.call('LPUSH', KEYS[5], unpack(ARGV, 12, first - 1))
  redis.call('LTRIM', KEYS[5], 0, ARGV[10] - 1)
  redis.call('EXPIRE', KEYS[5], ARGV[11])
end
redis.call('HSET', KEYS[3], 'depth:' .. minute, depth + accepted)
redis.call('EXPIRE', KEYS[3], ARGV[3])

return {'pushed', pushed}
