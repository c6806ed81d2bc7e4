-- Puts unused tokens back into a bucket, as far as it holds them.
--
-- KEYS[1]   the bucket, as in lease.lua
-- ARGV[1]   how many tokens
--
-- Returns 1, or 0 when there is no such bucket, which is the same as a full one.
assert(#KEYS == 1 and #ARGV == 1, "1 key, 1 argument")

local bucket = redis.call('GET', KEYS[1])
if not bucket then return 0 end
local level, at, rate, burst = struct.unpack('<ddI4I4', bucket)
level = math.min(level + tonumber(ARGV[1]) * 1e6, burst * 1e6)
redis.call('SET', KEYS[1], struct.pack('<ddI4I4', level, at, rate, burst), 'KEEPTTL')
return 1
