-- Takes a value that processes share from the one who renews it.
--
-- KEYS[1]   the value, as in borrow.lua
-- ARGV[1]   who renewed it
-- ARGV[2]   its mark
-- ARGV[3]   the value
-- ARGV[4]   from when on it is renewed, in microseconds since the epoch
-- ARGV[5]   until when it holds, the same
-- ARGV[6]   how long that is from now, in milliseconds
--
-- Returns 1, or 0 when somebody else was named meanwhile.
assert(#KEYS == 1 and #ARGV == 6, "1 key, 6 arguments")

if redis.call('HGET', KEYS[1], 'who') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'mark', ARGV[2], 'value', ARGV[3], 'renew_at', ARGV[4], 'until', ARGV[5])
redis.call('HDEL', KEYS[1], 'who', 'renewed_until')
redis.call('PEXPIRE', KEYS[1], ARGV[6])
return 1
