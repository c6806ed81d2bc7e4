-- Says whether this memory is still recovering.
--
-- KEYS[1]   identity of this memory, a hash
-- ARGV[1]   the identity's id, as the caller knows it
--
-- Returns 1 or 0.
-- Fails with IDENTITY when this is another memory than the caller knows.
assert(#KEYS == 1 and #ARGV == 1, "1 key, 1 argument")

local known = redis.call('HMGET', KEYS[1], 'id', 'recovering')
if known[1] ~= ARGV[1] then
  return redis.error_reply('IDENTITY this memory has changed')
end
return known[2] == '1' and 1 or 0
