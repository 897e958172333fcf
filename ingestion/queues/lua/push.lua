-- Puts the messages of one or more requests on a queue, counts them, and remembers answers. Each
-- request is all or nothing, and has its own verdict.
--
-- KEYS  1 the queue (a list)             2 its totals (a hash)
--       3 its counts by minute (a hash)  4 its causes of rejection (a hash)
--       5 its latest rejections (a list) 6 its pause (a string)
--       7… for each request with a fingerprint, in order: what it was answered before (a hash)
-- ARGV  1 the most messages that the queue may hold before a push
--       2 the minute of the hour: the field names in KEYS[3] end with it
--       3 seconds after which KEYS[3] and KEYS[4] may be forgotten
--       4 how many rejections are kept   5 seconds to keep them
--       6… for each request, in order:
--          its fingerprint, or '' if no answer must be remembered
--          the answer to remember, and the seconds to remember it
--          how many records were rejected, and why, as a JSON object of code and count
--          how many rejections follow, and how many messages
--          the rejections, then the messages, in order
-- Gives for each request: {'pushed', place}, where place is how many messages had ever been pushed
--       here before; {'replayed', answer, place} or {'conflict'} if it came before, the same or
--       not; {'paused', the pause} or {'full'}, and then nothing of it was done. With no ARGV at
--       all it gives {'allowed'} if a push would not be refused, and changes nothing.
--
-- All or nothing: Redis does not undo the writes of a script, so if a command is refused half-way,
-- the writes before it stay. Undoing them would need commands that may be refused too. So before
-- the first write the script checks everything that can be refused: whether the account may use
-- each command on its key, whether each key has its type, and whether each value that is counted
-- up is a number. Nothing can change in between, because a script runs alone; and memory, disk
-- and replicas are checked by the store only at the first write. If a write is refused anyway,
-- the messages are written first: they may be there twice in the end, but an answer is never
-- remembered for messages that are not there.

local only_asked = #ARGV == 0
local minute = ARGV[2] or ''

local requests = {}
local rejected = 0
local at = 6
while at <= #ARGV do
  local request = {
    fingerprint = ARGV[at], answer = ARGV[at + 1], seconds = ARGV[at + 2],
    rejected = tonumber(ARGV[at + 3]), causes = ARGV[at + 4],
    rejections = at + 7, messages = at + 7 + ARGV[at + 5],
  }
  request.accepted = tonumber(ARGV[at + 6])
  at = request.messages + request.accepted
  request.stop = at
  rejected = rejected + request.rejected
  requests[#requests + 1] = request
end

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

local depth = redis.call('LLEN', KEYS[1])
local totals = redis.call('HMGET', KEYS[2], 'accepted', 'rejected')
local counts = redis.call('HMGET', KEYS[3], 'accepted:' .. minute, 'rejected:' .. minute)
local pause = redis.call('GET', KEYS[6])
if rejected > 0 or only_asked then
  must('HINCRBY', KEYS[4], '', 1)
  must('EXPIRE', KEYS[4], 1)
  must('LPUSH', KEYS[5], '')
  must('LTRIM', KEYS[5], 0, 1)
  must('EXPIRE', KEYS[5], 1)
  redis.call('HLEN', KEYS[4])
  redis.call('LLEN', KEYS[5])
end
-- What was answered, by its key. A request may be there twice.
local told = {}
for place = 7, #KEYS do
  local key = KEYS[place]
  must('HSET', key, '', '')
  must('EXPIRE', key, 1)
  local found = redis.call('HMGET', key, 'fingerprint', 'answer', 'place')
  if found[1] then
    told[key] = {fingerprint = found[1], answer = found[2], place = tonumber(found[3])}
  end
end
if only_asked then
  return {'allowed'}
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
local pushed_before = tonumber(totals[1] or 0)

local verdicts = {}
local messages = {}
local rejections = {}
local causes = {}
local remembered = {}
local replayed = {}
local next_key = 7
rejected = 0
for number, request in ipairs(requests) do
  local key
  if request.fingerprint ~= '' then
    key = KEYS[next_key]
    next_key = next_key + 1
  end
  local before = key and told[key]
  local verdict
  if before then
    if before.fingerprint == request.fingerprint then
      verdict = {'replayed', before.answer, before.place}
      replayed[key] = request.seconds
    else
      verdict = {'conflict'}
    end
  elseif request.accepted > 0 and pause then
    verdict = {'paused', pause}
  elseif request.accepted > 0 and depth + #messages >= tonumber(ARGV[1]) then
    verdict = {'full'}
  else
    local place = pushed_before + #messages
    verdict = {'pushed', place}
    for from = request.messages, request.stop - 1 do
      messages[#messages + 1] = ARGV[from]
    end
    for from = request.rejections, request.messages - 1 do
      rejections[#rejections + 1] = ARGV[from]
    end
    if request.rejected > 0 then
      rejected = rejected + request.rejected
      for cause, count in pairs(cjson.decode(request.causes)) do
        if not causes[cause] then
          must_be_a_count(redis.call('HGET', KEYS[4], cause))
        end
        causes[cause] = (causes[cause] or 0) + count
      end
    end
    if key then
      told[key] = {fingerprint = request.fingerprint, answer = request.answer, place = place}
      remembered[key] = request.seconds
    end
  end
  verdicts[number] = verdict
end

-- Here the writes begin. In slices, since Lua can unpack only some thousand values at a time.
for from = 1, #messages, 1000 do
  redis.call('LPUSH', KEYS[1], unpack(messages, from, math.min(from + 999, #messages)))
end
for key, seconds in pairs(remembered) do
  local one = told[key]
  redis.call('HSET', key, 'fingerprint', one.fingerprint, 'answer', one.answer, 'place', one.place)
  redis.call('EXPIRE', key, seconds)
end
for key, seconds in pairs(replayed) do
  -- This is a write, so waiting for a replica also waits for the first push: the store waits only
  -- for the writes of the same connection, and for all that lies before them.
  redis.call('EXPIRE', key, seconds)
end

if #messages > 0 then
  redis.call('HINCRBY', KEYS[2], 'accepted', #messages)
  redis.call('HINCRBY', KEYS[3], 'accepted:' .. minute, #messages)
end
if rejected > 0 then
  redis.call('HINCRBY', KEYS[2], 'rejected', rejected)
  redis.call('HINCRBY', KEYS[3], 'rejected:' .. minute, rejected)
  for cause, count in pairs(causes) do
    redis.call('HINCRBY', KEYS[4], cause, count)
  end
  redis.call('EXPIRE', KEYS[4], ARGV[3])
end
if #rejections > 0 then
  for from = 1, #rejections, 1000 do
    redis.call('LPUSH', KEYS[5], unpack(rejections, from, math.min(from + 999, #rejections)))
  end
  redis.call('LTRIM', KEYS[5], 0, ARGV[4] - 1)
  redis.call('EXPIRE', KEYS[5], ARGV[5])
end
if #messages > 0 or rejected > 0 then
  redis.call('HSET', KEYS[3], 'depth:' .. minute, depth + #messages)
  redis.call('EXPIRE', KEYS[3], ARGV[3])
end

return verdicts
