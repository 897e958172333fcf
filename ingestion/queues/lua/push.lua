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
--       {'replayed', answer, place} or {'conflict'} where the request came before, the same or not;
--       {'paused', the pause} or {'full'}, and then nothing was done.
--
-- A script that fails half-way keeps what it wrote, so everything that can fail (a key of another
-- type) is read first, and the messages are pushed last: a count that is no number must not leave
-- messages behind that the sender was told are not there. Memory needs no care: the store refuses
-- the whole script before its first write.

local depth = redis.call('LLEN', KEYS[1])
local pushed = tonumber(redis.call('HGET', KEYS[2], 'accepted') or 0)
redis.call('HLEN', KEYS[3])
redis.call('HLEN', KEYS[4])
redis.call('LLEN', KEYS[5])
local pause = redis.call('GET', KEYS[6])

if ARGV[6] ~= '' then
  local before = redis.call('HMGET', KEYS[7], 'fingerprint', 'answer', 'place')
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

if accepted > 0 then
  redis.call('HINCRBY', KEYS[2], 'accepted', accepted)
  redis.call('HINCRBY', KEYS[3], 'accepted:' .. ARGV[2], accepted)
end

if rejected > 0 then
  redis.call('HINCRBY', KEYS[2], 'rejected', rejected)
  redis.call('HINCRBY', KEYS[3], 'rejected:' .. ARGV[2], rejected)
  for cause, count in pairs(cjson.decode(ARGV[4])) do
    redis.call('HINCRBY', KEYS[4], cause, count)
  end
  redis.call('EXPIRE', KEYS[4], ARGV[3])
end
if rejections > 0 then
  redis.call('LPUSH', KEYS[5], unpack(ARGV, 12, first - 1))
  redis.call('LTRIM', KEYS[5], 0, ARGV[10] - 1)
  redis.call('EXPIRE', KEYS[5], ARGV[11])
end

redis.call('HSET', KEYS[3], 'depth:' .. ARGV[2], depth + accepted)
redis.call('EXPIRE', KEYS[3], ARGV[3])

if ARGV[6] ~= '' then
  redis.call('HSET', KEYS[7], 'fingerprint', ARGV[6], 'answer', ARGV[7], 'place', pushed)
  redis.call('EXPIRE', KEYS[7], ARGV[8])
end

-- In slices, since Lua can unpack only some thousand values at a time.
for from = first, #ARGV, 1000 do
  redis.call('LPUSH', KEYS[1], unpack(ARGV, from, math.min(from + 999, #ARGV)))
end

return {'pushed', pushed}
