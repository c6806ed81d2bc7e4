-- Ends the recovery of a memory, unless it is another by now.
--
-- KEYS[1]   identity of this memory, a hash
-- ARGV[1]   the id of the memory that was recovered
--
-- Returns 1, or 0 when this is another one.
assert(#KEYS == 1 and #ARGV == 1, "1 key, 1 argument")

if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return 0 end
redis.call('HDEL', KEYS[1], 'recovering', 'lead', 'lead_until')
return 1
