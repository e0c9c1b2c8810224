-- Charges keys late, without asking, and takes charges back.
--
-- KEYS: one for each order. ARGV: nine for each, the three of `state.lua`, and
--   order      'charge': as many cells as fit into two bursts; 'refund': cells of one charge; 'give': cells, whatever
--              they were charged for
--   cells      how many
--   born       for a refund: when the key was new, as it was told with the charge
--   place      and where the charge is: the TAT that it led to, or the number of the window
--   refunded   and what had been taken back from the key until then
--   stood_on   and the debt that it stood on, in nanoseconds
-- Gives the clock (seconds, microseconds), then five for each order: how many cells were charged or taken back, and four
-- numbers as `decide.lua` gives them.
local answer = { seconds, tonumber(clock[2]) }
for i, key in ipairs(KEYS) do
  local at = (i - 1) * 9
  local terms, order, cells = terms_at(at + 1), ARGV[at + 4], tonumber(ARGV[at + 5])
  local kind = terms.kind
  local state = kind.read(key, terms)
  if order == 'charge' then
    cells = math.max(0, math.min(cells, kind.room(state, terms)))
    kind.spend(state, terms, cells)
  elseif order == 'give' then
    cells = math.min(cells, kind.used(state, terms))
    kind.take_off(state, terms, cells)
  elseif tonumber(ARGV[at + 6]) == state.born then
    kind.take_back(state, terms, cells, ARGV[at + 7], tonumber(ARGV[at + 8]), tonumber(ARGV[at + 9]))
  else
    -- Its debt had run off, or was freed: what is there now is another's.
    cells = 0
  end
  if kind.is_idle(state) then
    redis.call('DEL', key)
  elseif cells > 0 then
    kind.write(key, terms, state)
  end
  answer[#answer + 1] = cells
  for _, number in ipairs(kind.numbers(state, terms)) do
    answer[#answer + 1] = number
  end
end
return answer
