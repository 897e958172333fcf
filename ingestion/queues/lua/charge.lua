-- Charges a client for the records of its requests, each if its quota allows them.
--
-- KEYS  1 until when the client's records use up its quota, and when that was written: two
--         milliseconds (a string)
-- ARGV  1 how many records it may send a minute   2… how many each of its requests has, in order
-- Gives for each request {milliseconds to wait, how many records the client may send now,
--       milliseconds until all of the quota is free}. If the first is not 0, the request was not
--       charged.
--
-- The quota refills all the time. A charge of more than a minute's quota needs all of the quota,
-- and the rest refills before the next charge. So the mean holds, and no size waits for ever.

local per_minute = tonumber(ARGV[1])
local each = 60000 / per_minute
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local written = redis.call('GET', KEYS[1]) or ''
local used_until = tonumber(written:match('^%S+') or 0)
local written_at = tonumber(written:match('%S+$') or 0)
-- If the clock was set back since, what is used up is so for as long as before.
used_until = math.max(now, used_until - math.max(0, written_at - now))

local verdicts = {}
local any_charged = false
for at = 2, #ARGV do
  local records = tonumber(ARGV[at])
  local wait = used_until + math.min(records, per_minute) * each - now - 60000
  local charged = wait < 1 -- less is a rounding error
  if charged then
    any_charged = true
    used_until = used_until + records * each
  end
  local used = used_until - now
  local left = math.max(0, math.floor((60000 - used) / each + 0.001))
  verdicts[#verdicts + 1] = {charged and 0 or math.ceil(wait), left, math.ceil(used)}
end
if any_charged then
  local value = string.format('%.3f %.0f', used_until, now)
  redis.call('SET', KEYS[1], value, 'PX', math.max(1, math.ceil(used_until - now)))
end
return verdicts
