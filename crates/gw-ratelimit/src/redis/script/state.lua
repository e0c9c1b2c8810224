-- What the scripts have in common: how the state of a key is read as of now, changed, and written.
--
-- A policy is a rate or a sliding window. Both are described by three numbers, the first three ARGV of each key:
--   unit       nanoseconds that all amounts of a rate are counted in; 0 for a sliding window
--   interval   what one cell costs; the length of a window, in microseconds
--   most       what the burst costs; how many cells a window brings
--
-- A key lives as long as its debt. It holds, under a rate:
--   its theoretical arrival time (TAT) in Unix time, and when that was written, both as seconds and nanoseconds, since
--   nanoseconds since then are more than a Lua number holds; when the key was new, in microseconds; and how much was
--   ever taken back from it since then, in nanoseconds
--   ("1767225600.000000001 1767225599.123456000 1767225590000000 0");
-- under a sliding window:
--   the number of the window, counted from 1970 on, what was spent in it and in the one before, and when the key was new
--   ("29453760 12 30 1767225590000000").
-- If it was written later than now, the clock was set back, or is another server's. Then the debt is what it was when it
-- was written, and begins to run off now.
local clock = redis.call('TIME')
local seconds, nanos = tonumber(clock[1]), tonumber(clock[2]) * 1000
local micros = seconds * 1e6 + tonumber(clock[2])

local rate, window = {}, {}

local function terms_at(at)
  local unit = tonumber(ARGV[at])
  return {
    unit = unit,
    interval = tonumber(ARGV[at + 1]),
    most = tonumber(ARGV[at + 2]),
    kind = unit == 0 and window or rate,
  }
end

-- How far a time in seconds and nanoseconds is ahead of another, in units, rounded up.
local function ahead(at, than, unit)
  return (at[1] - than[1]) * (1e9 / unit) + math.ceil((at[2] - than[2]) / unit)
end

local function keep(key, text, life)
  redis.call('SET', key, text, 'PX', string.format('%.0f', life))
end

-- A rate: the debt in units.

function rate.read(key, terms)
  local held = redis.call('GET', key)
  if not held then
    return { debt = 0, unit = terms.unit, born = micros, refunded = 0 }
  end
  local parts = { string.match(held, '^(%d+)%.(%d+) (%d+)%.(%d+) (%d+) (%d+)$') }
  for part = 1, 6 do
    parts[part] = tonumber(parts[part])
  end
  local tat, written, now = { parts[1], parts[2] }, { parts[3], parts[4] }, { seconds, nanos }
  local set_back = written[1] > seconds or written[1] == seconds and written[2] > nanos
  local debt = math.max(0, ahead(tat, set_back and written or now, terms.unit))
  local state = { debt = debt, unit = terms.unit, born = parts[5], refunded = parts[6] }
  if set_back then
    rate.write(key, terms, state)
  end
  return state
end

-- For a key that is named again, perhaps under another quota.
function rate.see_as(state, terms)
  state.debt = math.ceil(state.debt * state.unit / terms.unit)
  state.unit = terms.unit
end

function rate.fits(state, terms, cost)
  return state.debt + cost <= terms.most
end

function rate.charge(state, terms, cost)
  state.debt = state.debt + cost
end

function rate.numbers(state)
  return { state.debt, 0, state.born, state.refunded }
end

function rate.write(key, _, state)
  local second = 1e9 / state.unit
  local rest = math.fmod(state.debt, second)
  local tat_seconds, tat_nanos = seconds + (state.debt - rest) / second, nanos + rest * state.unit
  if tat_nanos >= 1e9 then
    tat_seconds, tat_nanos = tat_seconds + 1, tat_nanos - 1e9
  end
  if state.refunded > 9e15 then
    -- Beyond what a Lua number holds. As if it were new: what was charged before is not taken back any more.
    state.born, state.refunded = micros, 0
  end
  local text = string.format('%.0f.%09.0f %.0f.%09.0f %.0f %.0f',
    tat_seconds, tat_nanos, seconds, nanos, state.born, state.refunded)
  -- A millisecond more than the debt, since lives are counted in whole ones.
  keep(key, text, math.ceil(state.debt * state.unit / 1e6) + 1)
end

function rate.is_idle(state)
  return state.debt <= 0
end

-- What is left of so much room, in cells.
function rate.room(state, terms)
  return math.floor((2 * terms.most - state.debt) / terms.interval)
end

function rate.spend(state, terms, cells)
  state.debt = state.debt + cells * terms.interval
end

function rate.take_off(state, terms, cells)
  local cost = cells * terms.interval
  state.debt = math.max(0, state.debt - cost)
  state.refunded = state.refunded + cost * terms.unit
end

function rate.used(state, terms)
  return math.ceil(state.debt / terms.interval)
end

-- `gcra::take_back` is the same in Rust. A charge that stood on other debt stands on less once that was taken back, so
-- what was taken back since counts as if the charge had come earlier; but no more of it than the charge stood on.
function rate.take_back(state, terms, cells, place, refunded, stood_on)
  local after_seconds, after_nanos = string.match(place, '^(%d+)%.(%d+)$')
  local after = ahead({ tonumber(after_seconds), tonumber(after_nanos) }, { seconds, nanos }, terms.unit)
  local since = math.ceil(math.min(math.max(0, state.refunded - refunded), stood_on) / terms.unit)
  local cost = cells * terms.interval
  local run_off = math.max(0, cost + since - after)
  state.debt = math.max(0, state.debt - math.max(0, cost - run_off))
  state.refunded = state.refunded + cost * terms.unit
end

-- A sliding window: what was spent in this window and in the one before, in cells, and what is left of this one, in
-- microseconds.

-- The product of whole numbers up to 2^29 and 2^45 in two parts, as it is more than a Lua number holds.
local function product(a, b)
  local part = 4194304
  local low = math.fmod(b, part)
  local high, rest = a * ((b - low) / part), a * low
  local carry = math.floor(rest / part)
  return high + carry, rest - carry * part
end

function window.read(key, terms)
  local elapsed = math.fmod(micros, terms.interval)
  local number = (micros - elapsed) / terms.interval
  local state = { number = number, current = 0, previous = 0, left = terms.interval - elapsed, born = micros }
  local held = redis.call('GET', key)
  if not held then
    return state
  end
  local was, current, previous, born = string.match(held, '^(%d+) (%d+) (%d+) (%d+)$')
  was, state.born = tonumber(was), tonumber(born)
  if was >= number then
    state.current, state.previous = tonumber(current), tonumber(previous)
  elseif was == number - 1 then
    state.previous = tonumber(current)
  end
  if was > number then
    window.write(key, terms, state)
  end
  return state
end

function window.see_as()
  -- All that name a key count in windows of one length.
end

-- Whether `previous * left / interval + current + cost` is at most `most`, multiplied out.
local function has_room(state, terms, cost, most)
  local free = most - state.current - cost
  if free < 0 then
    return false
  end
  local taken, taken_rest = product(state.previous, state.left)
  local high, rest = product(free, terms.interval)
  return taken < high or taken == high and taken_rest <= rest
end

function window.fits(state, terms, cost)
  return has_room(state, terms, cost, terms.most)
end

function window.charge(state, _, cost)
  state.current = state.current + cost
end

window.spend = window.charge

function window.numbers(state, terms)
  return { state.current, state.previous, state.born, terms.interval - state.left }
end

function window.write(key, terms, state)
  local text = string.format('%.0f %.0f %.0f %.0f', state.number, state.current, state.previous, state.born)
  local life = state.left + (state.current > 0 and terms.interval or 0)
  keep(key, text, math.ceil(life / 1000) + 1)
end

function window.is_idle(state)
  return state.current <= 0 and state.previous <= 0
end

function window.room(state, terms)
  local most = 2 * terms.most
  -- Off by one at the most.
  local room = most - state.current - math.ceil(state.previous * state.left / terms.interval)
  if has_room(state, terms, room + 1, most) then
    return room + 1
  end
  return has_room(state, terms, room, most) and room or room - 1
end

function window.take_off(state, _, cells)
  state.current = state.current - cells
end

-- Of what is left of this window, only what was charged in it.
function window.used(state)
  return state.current
end

-- Counted in the window that it was charged in, and gone when that is past.
function window.take_back(state, _, cells, place)
  local age = state.number - tonumber(place)
  if age == 0 then
    state.current = math.max(0, state.current - cells)
  elseif age == 1 then
    state.previous = math.max(0, state.previous - cells)
  end
end
