-- Gives leased cells back that were not spent, if nobody has charged the key since they were leased.
--
-- KEYS[1]: the key. ARGV: its theoretical arrival time as the lease left it, and as it would be without these cells;
-- both as seconds and nanoseconds, as `decide.lua` writes them. Gives 1 if they were given back.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
return 1
