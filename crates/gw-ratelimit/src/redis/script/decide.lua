-- Decides on one request over several keys: all are charged or none.
--
-- KEYS: one for each policy. ARGV: six for each key, the three of `state.lua`, and
--   cost       what the request costs: units, or cells of a window; above the burst it can never pass
--   extra      how many cells to lease besides, if there are; 0 for a window
--   enforced   1 if the key's word counts, 0 if it only watches
-- Gives the clock (seconds, microseconds), then five for each key: the ruling (0 allowed, 1 limited, 2 too costly), and
--   under a rate: the debt from here on, the cells leased, when the key was new, what was taken back since;
--   under a window: what is spent in it and in the one before, when the key was new, how much of it is over.
-- `lease::grant` and `window::Window` are the same in Rust.
local asked, states, named = {}, {}, {}
local refused = false

for i, key in ipairs(KEYS) do
  local at = (i - 1) * 6
  local terms, cost = terms_at(at + 1), tonumber(ARGV[at + 4])
  local kind = terms.kind
  local state = states[key]
  if state then
    kind.see_as(state, terms)
  else
    state = kind.read(key, terms)
    states[key] = state
  end
  named[key] = (named[key] or 0) + 1
  local ruling = 0
  if cost > terms.most then
    ruling = 2
  elseif cost > 0 and not kind.fits(state, terms, cost) then
    ruling = 1
  end
  refused = refused or ruling ~= 0 and ARGV[at + 6] == '1'
  local before = kind.numbers(state, terms)
  if ruling == 0 then
    -- Not written yet.
    kind.charge(state, terms, cost)
  end
  local charged = kind.numbers(state, terms)
  asked[i] = { terms = terms, ruling = ruling, cost = cost, before = before, charged = charged }
end

local answer = { seconds, tonumber(clock[2]) }
for i, key in ipairs(KEYS) do
  local about, state = asked[i], states[key]
  local terms, numbers = about.terms, refused and about.before or about.charged
  if about.ruling == 0 and not refused then
    local leased = 0
    -- The debt that the next charge of the same key begins with knows of no lease.
    if terms.kind == rate and named[key] == 1 then
      -- At most half of what is left, so that one instance does not take the last from the others.
      local free = math.floor((terms.most - state.debt) / terms.interval / 2)
      leased = math.max(0, math.min(tonumber(ARGV[i * 6 - 1]), free))
    end
    if leased > 0 then
      rate.spend(state, terms, leased)
      numbers = rate.numbers(state)
      numbers[2] = leased
    end
    if about.cost > 0 or leased > 0 then
      terms.kind.write(key, terms, state)
    end
  end
  answer[#answer + 1] = about.ruling
  for _, number in ipairs(numbers) do
    answer[#answer + 1] = number
  end
end
return answer
