-- Gives the lead of a recovery to one caller for a time.
--
-- KEYS[1]   identity of this memory, a hash; lead and lead_until are the leader and the end of its time
-- ARGV[1]   the identity's id, as the caller knows it
-- ARGV[2]   now, in microseconds since the epoch
-- ARGV[3]   how long the lead lasts, the same
-- ARGV[4]   who asks
--
-- Returns whether the caller leads, 1 or 0.
-- Fails with IDENTITY when this is another memory than the caller knows.
assert(#KEYS == 1 and #ARGV == 4, "1 key, 4 arguments")

local known = redis.call('HMGET', KEYS[1], 'id', 'lead', 'lead_until')
if known[1] ~= ARGV[1] then
  return redis.error_reply('IDENTITY this memory has changed')
end
local now = tonumber(ARGV[2])
if known[2] and known[2] ~= ARGV[4] and tonumber(known[3]) > now then return 0 end
redis.call('HSET', KEYS[1], 'lead', ARGV[4], 'lead_until', string.format('%.0f', now + tonumber(ARGV[3])))
return 1
