-- Takes given messages off a queue and keeps copies from which they can be put back.
--
-- KEYS  1 the queue (a list)   2 where the copies go (a list)   3 the queue's totals (a hash)
--       4 its counts by minute (a hash)
-- ARGV  1 the minute of the hour   2 seconds after which KEYS[4] may be forgotten
--       3 seconds to keep the copies   4 the end where the search begins: 'oldest' or 'newest'
--       5 how many messages to search at most   6 a text that is not a message
--       7… the messages, each as often as it must be taken off
-- Gives how many were found and taken off.
--
-- A list can remove a value but not a place, and removing a value walks through the list. So the
-- messages that are found are first overwritten with ARGV[6], and one walk removes all of those.
--
-- Nothing is done if a command is refused: see push.lua.

local function must(...)
  if not redis.acl_check_cmd(...) then
    error(redis.error_reply('NOPERM this account may not use ' .. ...))
  end
end
must('LSET', KEYS[1], 0, '')
must('LREM', KEYS[1], 0, '')
must('LPUSH', KEYS[2], '')
must('RPUSH', KEYS[2], '')
must('EXPIRE', KEYS[2], 1)
must('HINCRBY', KEYS[3], '', 1)
must('HINCRBY', KEYS[4], '', 1)
must('HSET', KEYS[4], '', '')
must('EXPIRE', KEYS[4], 1)
local function must_be_a_count(text)
  if text and not (text:find('^%d+$') and #text < 16 and (text == '0' or text:byte() ~= 48)) then
    error(redis.error_reply('ERR a count is no number'))
  end
end
must_be_a_count(redis.call('HGET', KEYS[3], 'taken_off'))
must_be_a_count(redis.call('HGET', KEYS[4], 'taken_off:' .. ARGV[1]))

redis.call('LLEN', KEYS[2])
local from_newest = ARGV[4] == 'newest'
local depth = redis.call('LLEN', KEYS[1])
local within = math.min(depth, tonumber(ARGV[5]))

local wanted = {}
for at = 7, #ARGV do
  wanted[ARGV[at]] = (wanted[ARGV[at]] or 0) + 1
end

local missing = #ARGV - 6
local found = {}
for first = 0, within - 1, 1000 do
  if missing == 0 then
    break
  end
  local last = math.min(first + 999, within - 1)
  local lowest = from_newest and first or -last - 1
  local slice = redis.call('LRANGE', KEYS[1], lowest, from_newest and last or -first - 1)
  for step = 1, #slice do
    local at = from_newest and step or #slice + 1 - step
    local left = wanted[slice[at]]
    if left and left > 0 then
      wanted[slice[at]] = left - 1
      missing = missing - 1
      found[#found + 1] = {lowest + at - 1, slice[at]}
    end
  end
end
if #found == 0 then
  return 0
end

for _, one in ipairs(found) do
  -- The newest copy is leftmost, even if several calls take off under the same name: each call
  -- finds messages that are further from its end than those of the calls before.
  redis.call(from_newest and 'RPUSH' or 'LPUSH', KEYS[2], one[2])
  redis.call('LSET', KEYS[1], one[1], ARGV[6])
end
redis.call('LREM', KEYS[1], from_newest and #found or -#found, ARGV[6])
redis.call('EXPIRE', KEYS[2], ARGV[3])
redis.call('HINCRBY', KEYS[3], 'taken_off', #found)
redis.call('HINCRBY', KEYS[4], 'taken_off:' .. ARGV[1], #found)
redis.call('HSET', KEYS[4], 'depth:' .. ARGV[1], depth - #found)
redis.call('EXPIRE', KEYS[4], ARGV[2])
return #found
