-- Adds cancellations of one tenant. Of two for the same target the later times count. Forgets some whose time is over:
-- more than one call can bring in the long run, so that they never pile up.
--
-- KEYS[1]   identity of this memory, a hash
-- KEYS[2]   the tenant's cancellations, a hash of target (form u8, key 16 bytes) to (at f64, keep_until f64)
-- ARGV[1]   the identity's id, as the caller knows it
-- ARGV[2]   now, in microseconds since the epoch
-- ARGV[3]   until when they are kept, the same
-- ARGV[4]   n x (target 17 bytes, at f64)
--
-- Returns how many the tenant has.
-- Fails with IDENTITY when this is another memory than the caller knows.
assert(#KEYS == 2 and #ARGV == 4 and #ARGV[4] % 25 == 0, "2 keys, 4 arguments")

if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then
  return redis.error_reply('IDENTITY this memory has changed')
end

local key, now, keep_until = KEYS[2], tonumber(ARGV[2]), tonumber(ARGV[3])
-- How much longer than needed Redis keeps them, since its clock is not the callers'; and the longest life, in ms,
-- that prints as a whole number.
local GRACE, LIFE_MAX = 600e6, 9e13
local n = #ARGV[4] / 25
for i = 1, n do
  local target, at = struct.unpack('<c17d', ARGV[4], 25 * i - 24)
  local known = redis.call('HGET', key, target)
  local keep = keep_until
  if known then
    local known_at, known_until = struct.unpack('<dd', known)
    at, keep = math.max(at, known_at), math.max(keep, known_until)
  end
  redis.call('HSET', key, target, struct.pack('<dd', at, keep))
end

local sample = redis.call('HRANDFIELD', key, 4 * n + 4, 'WITHVALUES')
for i = 1, #sample, 2 do
  local _, until_at = struct.unpack('<dd', sample[i + 1])
  if until_at <= now then redis.call('HDEL', key, sample[i]) end
end
local life = math.min(math.max(math.ceil((keep_until - now + GRACE) / 1000), 1), LIFE_MAX)
if redis.call('PTTL', key) < life then redis.call('PEXPIRE', key, life) end
return redis.call('HLEN', key)
