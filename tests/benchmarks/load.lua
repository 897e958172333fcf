-- For wrk: sends one body again and again, and prints what came of it as JSON.
--
-- Arguments: file of the body, content type, method, then headers as name and value. The value
-- "unique" is a new one for each request, as an Idempotency-Key needs. The request is put together
-- once; each time only the unique value between its two halves is made.

local MARK = "benchmark-unique-value"
local before, after
local start = os.time() .. "-"
local sent = 0

function init(args)
  local file = assert(io.open(args[1], "rb"))
  wrk.body = file:read("*a")
  file:close()
  wrk.headers["Content-Type"] = args[2]
  wrk.method = args[3]
  for at = 4, #args, 2 do
    wrk.headers[args[at]] = args[at + 1] == "unique" and MARK or args[at + 1]
  end
  local whole = wrk.format()
  local first, last = whole:find(MARK, 1, true)
  if first then
    before, after = whole:sub(1, first - 1), whole:sub(last + 1)
  else
    before, after = whole, nil
  end
end

function request()
  if not after then
    return before
  end
  sent = sent + 1
  return before .. start .. sent .. after
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "seconds": %.6f, "p50_ms": %.3f, "p99_ms": %.3f, "faults": %d}\n',
    summary.requests, summary.duration / 1e6,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    errors.status + errors.connect + errors.read + errors.write + errors.timeout
  ))
end
