-- Charges a client for records, if its quota allows them.
--
-- KEYS  1 until when the client's records use up its quota, and when that was written: two
--         milliseconds (a string)
-- ARGV  1 how many records   2 how many a minute it may send
-- Gives {milliseconds to wait, how many it may send now, milliseconds until all of the quota is
--       free}. If the first is not 0, nothing was charged.
--
-- The quota refills all the time. A charge of more than a minute's quota needs all of the quota,
-- and the rest refills before the next charge. So the mean holds, and no size waits for ever.

local records = tonumber(ARGV[1])
local per_minute = tonumber(ARGV[2])
local each = 60000 / per_minute
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local written = redis.call('GET', KEYS[1]) or ''
local used_until = tonumber(written:match('^%S+') or 0)
local written_at = tonumber(written:match('%S+$') or 0)
-- If the clock was set back meanwhile, the used part takes as long to refill as before.
used_until = math.max(now, used_until - math.max(0, written_at - now))

local wait = used_until + math.min(records, per_minute) * each - now - 60000
local charged = wait < 1 -- less is a rounding error
if charged then
  used_until = used_until + records * each
  local value = string.format('%.3f %.0f', used_until, now)
  redis.call('SET', KEYS[1], value, 'PX', math.ceil(used_until - now))
end
local used = used_until - now
local left = math.max(0, math.floor((60000 - used) / each + 0.001))
return {charged and 0 or math.ceil(wait), left, math.ceil(used)}
