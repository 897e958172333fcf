-- Looks through a slice of a queue for messages whose source begins with a text. Only reads.
--
-- KEYS  1 the queue (a list)   2 its totals (a hash)
-- ARGV  1 the place to go on from: 0, or what the slice before gave
--       2 how many messages had been taken off then, or -1
--       3 how many messages to look through   4 what each one looked for holds
-- Gives {the place after the slice, how many were taken off so far, how many were looked through,
--        the messages that hold the text…}, the newest first.
--
-- Places count from the newest message, so what is pushed meanwhile moves the rest away: it is seen
-- again. What is taken off moves the rest nearer, be it by who asks here or by somebody else, so
-- the place goes back by as many: none is overlooked.

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
