-- Puts messages on a queue and counts, all or nothing.
--
-- KEYS  1 the queue (a list)   2 its totals (a hash)   3 its counts by minute (a hash)
-- ARGV  1 the most messages that the queue may hold before this push
--       2 the minute of the hour: the field names in KEYS[3] end with it
--       3 seconds after which KEYS[3] may be forgotten
--       4 how many records were rejected   5… the messages, in order
-- Gives the queue's depth after the push, or -1 where the queue was full and nothing was done.
--
-- A script that fails half-way keeps what it wrote, so everything that can fail (a key of another
-- type) is read first, and the messages are pushed last: a count that is no number must not leave
-- messages behind that the sender was told are not there. Memory needs no care: the store refuses
-- the whole script before its first write.

local depth = redis.call('LLEN', KEYS[1])
redis.call('HLEN', KEYS[2])
redis.call('HLEN', KEYS[3])

local accepted = #ARGV - 4
local rejected = tonumber(ARGV[4])

if accepted > 0 and depth >= tonumber(ARGV[1]) then
  return -1
end

if accepted > 0 then
  redis.call('HINCRBY', KEYS[2], 'accepted', accepted)
  redis.call('HINCRBY', KEYS[3], 'accepted:' .. ARGV[2], accepted)
end
if rejected > 0 then
  redis.call('HINCRBY', KEYS[2], 'rejected', rejected)
  redis.call('HINCRBY', KEYS[3], 'rejected:' .. ARGV[2], rejected)
end
redis.call('EXPIRE', KEYS[3], ARGV[3])

-- In slices, since Lua can unpack only some thousand values at a time.
for first = 5, #ARGV, 1000 do
  depth = redis.call('LPUSH', KEYS[1], unpack(ARGV, first, math.min(first + 999, #ARGV)))
end

return depth
