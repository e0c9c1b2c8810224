-- Decides on one request over several keys: all are charged or none.
--
-- KEYS: one for each policy. ARGV: six for each key:
--   unit       nanoseconds that all amounts of this key are counted in
--   interval   what one cell costs
--   tolerance  what the burst costs
--   cost       what the request costs; above the tolerance it can never pass
--   extra      how many cells to lease besides, if there are
--   enforced   1 if the key's word counts, 0 if it only watches
-- Gives the clock (seconds, microseconds), then three for each key: the ruling (0 allowed, 1 limited, 2 too costly),
-- the debt from here on, and the cells leased. `lease::grant` is the same in Rust.
--
-- A key holds its theoretical arrival time in Unix time, and when that was written, as seconds and nanoseconds
-- ("1767225600.000000001 1767225599.123456000"), since nanoseconds since then are more than a Lua number holds. It lives as
-- long as its debt. If it was written later than now, the clock was set back, or is another server's: then the debt is
-- what it was when it was written, and begins to run off now.
local clock = redis.call('TIME')
local seconds, nanos = tonumber(clock[1]), tonumber(clock[2]) * 1000
local answer = { seconds, tonumber(clock[2]) }
local rulings, debts = {}, {}
-- What this request is to pay for each key, in nanoseconds, and which keys it names more than once.
local charged, repeated = {}, {}
local refused = false

local function write(key, debt, unit)
  local second = 1e9 / unit
  local rest = math.fmod(debt, second)
  local tat_seconds, tat_nanos = seconds + (debt - rest) / second, nanos + rest * unit
  if tat_nanos >= 1e9 then
    tat_seconds, tat_nanos = tat_seconds + 1, tat_nanos - 1e9
  end
  -- A millisecond more than the debt, since lives are counted in whole ones.
  local life = math.ceil(debt * unit / 1e6) + 1
  local text = string.format('%.0f.%09.0f %.0f.%09.0f', tat_seconds, tat_nanos, seconds, nanos)
  redis.call('SET', key, text, 'PX', string.format('%.0f', life))
end

for i = 1, #KEYS do
  local at = (i - 1) * 6
  local unit, tolerance, cost = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  local debt = 0
  local held = redis.call('GET', KEYS[i])
  if held then
    local parts = { string.match(held, '^(%d+)%.(%d+) (%d+)%.(%d+)$') }
    for part = 1, 4 do
      parts[part] = tonumber(parts[part])
    end
    local from_seconds, from_nanos = seconds, nanos
    local set_back = parts[3] > seconds or parts[3] == seconds and parts[4] > nanos
    if set_back then
      from_seconds, from_nanos = parts[3], parts[4]
    end
    debt = math.max(0, (parts[1] - from_seconds) * (1e9 / unit) + math.ceil((parts[2] - from_nanos) / unit))
    if set_back then
      write(KEYS[i], debt, unit)
    end
  end
  if charged[KEYS[i]] then
    repeated[KEYS[i]] = true
    debt = debt + math.ceil(charged[KEYS[i]] / unit)
  end
  local ruling = 0
  if cost > tolerance then
    ruling = 2
  elseif cost > 0 and debt + cost > tolerance then
    ruling = 1
  end
  if ruling ~= 0 and ARGV[at + 6] == '1' then
    refused = true
  end
  if ruling == 0 then
    charged[KEYS[i]] = (charged[KEYS[i]] or 0) + cost * unit
  end
  rulings[i], debts[i] = ruling, debt
end

for i = 1, #KEYS do
  local at = (i - 1) * 6
  local debt, leased = debts[i], 0
  if rulings[i] == 0 and not refused then
    local unit, interval, tolerance = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
    debt = debt + tonumber(ARGV[at + 4])
    -- The debt that the next charge of the same key begins with knows of no lease.
    leased = repeated[KEYS[i]] and 0 or tonumber(ARGV[at + 5])
    if leased > 0 then
      -- At most half of what is left, so that one instance does not take the last from the others.
      leased = math.max(0, math.min(leased, math.floor((tolerance - debt) / interval / 2)))
      debt = debt + leased * interval
    end
    if debt > debts[i] then
      write(KEYS[i], debt, unit)
    end
  end
  answer[3 * i], answer[3 * i + 1], answer[3 * i + 2] = rulings[i], debt, leased
end
return answer
