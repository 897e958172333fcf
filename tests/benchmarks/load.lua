-- For wrk: sends one body again and again, and prints what came of it as JSON.
--
-- Arguments: file of the body, content type, method, then headers as name and value. A value of
-- "unique" is a new one for each request, such as an Idempotency-Key needs.

local unique = {}
local threads = 0

function setup(thread)
  threads = threads + 1
  thread:set("number", threads)
end

function init(args)
  local file = assert(io.open(args[1], "rb"))
  wrk.method = args[3]
  wrk.body = file:read("*a")
  wrk.headers["Content-Type"] = args[2]
  for at = 4, #args, 2 do
    if args[at + 1] == "unique" then
      unique[#unique + 1] = args[at]
    else
      wrk.headers[args[at]] = args[at + 1]
    end
  end
  local started = os.time()
  local sent = 0
  if #unique > 0 then
    request = function()
      sent = sent + 1
      for _, name in ipairs(unique) do
        wrk.headers[name] = started .. "-" .. number .. "-" .. sent .. "-" .. math.random(1e9)
      end
      return wrk.format()
    end
  end
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
