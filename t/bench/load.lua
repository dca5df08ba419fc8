-- The load, for wrk:
--
--   wrk … -s load.lua URL -- KIND SEED UNCHANGED ACCOUNTS TAGS REGISTER_TOKEN CHECK
--
-- KIND is a key of "kinds" below. SEED is a number that no other run has. Accounts 1 to UNCHANGED
-- are never changed, those up to ACCOUNTS are. TAGS is a file with the entity tags of the first
-- accounts, a line each. CHECK is 1 where each answer's status is to be judged: that costs wrk
-- a call for each, so only a run whose figures do not count does it.
--
-- Its last line has: requests, microseconds, microseconds of the median and of the 99th
-- percentile, answers above 399, answers with a wrong status (CHECK), connections that failed or
-- took too long, connections that the server closed under a request.

local random = math.random
local seed, unchanged, accounts, register_token
local tags = {}
local registered = 0

local function compose(method, token, rest)
  return method .. " " .. wrk.path .. " HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "
    .. token .. "\r\n" .. rest
end

local function with_json(json)
  return "Content-Type: application/json\r\nContent-Length: " .. #json .. "\r\n\r\n" .. json
end

local function read()
  return compose("GET", "bench-" .. random(accounts), "\r\n")
end

local function revalidate()
  local n = random(#tags)
  return compose("GET", "bench-" .. n, 'If-None-Match: "' .. tags[n] .. '"\r\n\r\n')
end

local function patch(token)
  return compose("PATCH", token, with_json('{"user":{"city":"City ' .. random(1000000) .. '"}}'))
end

local function change()
  return patch("change-" .. random(unchanged + 1, accounts))
end

-- Of accounts whose one token may read and change.
local function change_any()
  return patch("bench-" .. random(accounts))
end

local function register()
  registered = registered + 1
  return compose("POST", register_token,
    with_json('{"user":{"fname":"Bench","lname":"Registered","provider_server":"bench.example",'
      .. '"provider_username":"r' .. seed .. "-" .. number .. "-" .. registered .. '"}}'))
end

local function mix()
  local part = random(100)
  return (part <= 80 and read or part <= 94 and revalidate or part <= 99 and change or register)()
end

local kinds = {
  reads = {request = read, status = 200},
  ["304s"] = {request = revalidate, status = 304},
  changes = {request = change, status = 200},
  ["changes of any"] = {request = change_any, status = 200},
  registrations = {request = register, status = 201},
  mix = {request = mix},
}

-- Threads share nothing: each has its number, and main keeps them for done().
local threads = {}

function setup(thread)
  table.insert(threads, thread)
  thread:set("number", #threads)
  thread:set("wrong", 0)
end

function init(args)
  local kind = kinds[args[1]]
  seed, unchanged, accounts = tonumber(args[2]), tonumber(args[3]), tonumber(args[4])
  for tag in io.lines(args[5]) do
    table.insert(tags, tag)
  end
  register_token = args[6]
  math.randomseed(seed * 1000 + number)
  request = kind.request
  if args[7] == "1" then
    response = function(status)
      if status ~= kind.status then
        wrong = wrong + 1
      end
    end
  end
end

function done(summary, latency)
  local errors = summary.errors
  local all_wrong = 0
  for _, thread in ipairs(threads) do
    all_wrong = all_wrong + thread:get("wrong")
  end
  print(table.concat({summary.requests, summary.duration, latency:percentile(50),
    latency:percentile(99), errors.status, all_wrong, errors.connect + errors.timeout,
    errors.read + errors.write}, " "))
end
