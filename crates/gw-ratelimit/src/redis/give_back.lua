-- Gives leased cells back that were not spent, if nobody has charged the key since they were leased.
--
-- KEYS[1]: the key. ARGV: its theoretical arrival time as the lease left it, and as it would be without these cells;
-- both as seconds and nanoseconds, as `decide.lua` writes them. Gives 1 if they were given back.
local held = redis.call('GET', KEYS[1])
local at = held and string.find(held, ' ', 1, true)
if not at or string.sub(held, 1, at - 1) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2] .. string.sub(held, at), 'KEEPTTL')
return 1
