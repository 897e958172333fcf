-- Searches a slice of a queue for messages that hold a given text, their source. Only reads.
--
-- KEYS  1 the queue (a list)   2 its totals (a hash)
-- ARGV  1 the place to continue from: 0, or the place that the last slice gave
--       2 how many messages had been taken off at that time, or -1
--       3 how many messages to search   4 the text that a message must hold
-- Gives {the place after the slice, how many were taken off so far, how many were searched,
--        the messages that hold the text…}, the newest first.
--
-- Places count from the newest message. A message that is pushed meanwhile moves the others away:
-- some are seen again. A message that is taken off, by this caller or another, moves them nearer.
-- So the place goes back by the number of those, and no message is missed.

local taken_off = tonumber(redis.call('HGET', KEYS[2], 'taken_off') or 0)
local first = tonumber(ARGV[1])
if tonumber(ARGV[2]) >= 0 then
  first = math.max(0, first - math.max(0, taken_off - tonumber(ARGV[2])))
end
local slice = redis.call('LRANGE', KEYS[1], first, first + ARGV[3] - 1)
local found = {first + #slice, taken_off, #slice}
for _, message in ipairs(slice) do
  if message:find(ARGV[4], 1, true) then
    found[#found + 1] = message
  end
end
return found
