-- A flood, or what is read meanwhile, for wrk:
--
--   wrk … -s attack.lua URL -- KIND PAUSE ACCOUNTS
--
-- KIND is a key of "kinds" below. After each answer a connection pauses for PAUSE milliseconds.
-- Accounts 1 to ACCOUNTS have the tokens read-1 and so on.
--
-- Its last line has: answers, microseconds of the median and of the 99th percentile, and each status
-- with a colon and how often it came; 0 is a connection that failed or took too long.

local random = math.random
local pause, accounts
local threads = {}

local function compose(method, authorization, body)
  return method .. " " .. wrk.path .. " HTTP/1.1\r\nHost: localhost\r\nAuthorization: " .. authorization
    .. (body and "\r\nContent-Type: application/json\r\nContent-Length: " .. #body or "") .. "\r\n\r\n" .. (body or "")
end

local digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

local function base64(text) -- of a length that 3 divides
  return (text:gsub("...", function(three)
    local a, b, c = three:byte(1, 3)
    local number, result = (a * 256 + b) * 256 + c, ""
    for _ = 1, 4 do
      local digit = number % 64
      result = digits:sub(digit + 1, digit + 1) .. result
      number = (number - digit) / 64
    end
    return result
  end))
end

-- Each is another name's: who guesses at one is locked out.
local function guess()
  local name = ""
  for _ = 1, 12 do name = name .. string.char(random(97, 122)) end
  return compose("GET", "Basic " .. base64(name .. ":wr"))
end

local numbers = '{"user":{"merge_labels":{"n":[' .. ("1e300,"):rep(10000) .. '1]}}}'

local kinds = {
  reads = function() return compose("GET", "Bearer read-" .. random(accounts)) end,
  changes = function() return compose("PATCH", "Bearer locked", '{"user":{"city":"Gouda"}}') end,
  numbers = function() return compose("PATCH", "Bearer numbers", numbers) end,
  hashes = guess,
}

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  math.randomseed(os.time())
  request = kinds[args[1]]
  pause, accounts = tonumber(args[2]), tonumber(args[3])
  statuses = {}
end

function delay()
  return pause
end

function response(status)
  statuses[status] = (statuses[status] or 0) + 1
end

function done(summary, latency)
  local all = {[0] = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout}
  for _, thread in ipairs(threads) do
    for status, count in pairs(thread:get("statuses")) do
      all[status] = (all[status] or 0) + count
    end
  end
  local told = {}
  for status, count in pairs(all) do
    if count > 0 then table.insert(told, status .. ":" .. count) end
  end
  table.sort(told)
  print(summary.requests, latency:percentile(50), latency:percentile(99), table.concat(told, " "))
end
