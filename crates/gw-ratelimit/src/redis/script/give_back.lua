-- Gives leased cells back that were not spent, where nobody has charged the key since they were leased.
--
-- KEYS: one for each lease. ARGV: two for each: the key's theoretical arrival time as the lease left it, and as it would
-- be without these cells; both as seconds and nanoseconds, as `state.lua` writes them. Gives how many were given back.
local given = 0
for i, key in ipairs(KEYS) do
  local held = redis.call('GET', key)
  local at = held and string.find(held, ' ', 1, true)
  if at and string.sub(held, 1, at - 1) == ARGV[2 * i - 1] then
    redis.call('SET', key, ARGV[2 * i] .. string.sub(held, at), 'KEEPTTL')
    given = given + 1
  end
end
return given
