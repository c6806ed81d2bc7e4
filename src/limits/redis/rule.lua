-- Adds rules of one tenant and one act. Of two for the same names the later counts, and the longer life. Forgets some
-- whose time is over: more than one call can bring in the long run, so that they never pile up.
--
-- KEYS[1]   identity of this memory, a hash
-- KEYS[2]   the tenant's rules of one sort, a hash of names to (at f64, keep_until f64, what it does)
-- ARGV[1]   the identity's id, as the caller knows it
-- ARGV[2]   now, in microseconds since the epoch
-- ARGV[3]   until when they are kept, the same
-- ARGV[4]   most that the hash may hold; 0: any number
-- ARGV[5]   n x (length u8, names; at f64; length u8, what it does)
--
-- Returns how many the tenant has.
-- Fails with IDENTITY when this is another memory than the caller knows, with RULES when there are too many.
assert(#KEYS == 2 and #ARGV == 5, "2 keys, 5 arguments")

if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then
  return redis.error_reply('IDENTITY this memory has changed')
end

local key, now, keep_until, most = KEYS[2], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
-- How much longer than needed Redis keeps them, since its clock is not the callers'; and the longest life, in ms,
-- that prints as a whole number.
local GRACE, LIFE_MAX = 600e6, 9e13

local function forget(sample)
  for i = 1, #sample, 2 do
    local _, until_at = struct.unpack('<dd', sample[i + 1])
    if until_at <= now then redis.call('HDEL', key, sample[i]) end
  end
end

if most > 0 and redis.call('HLEN', key) >= most then
  forget(redis.call('HGETALL', key))
end
local p, n = 1, 0
while p <= #ARGV[5] do
  local names, at, does
  names, at, does, p = struct.unpack('<Bc0dBc0', ARGV[5], p)
  local known = redis.call('HGET', key, names)
  local keep = keep_until
  if known then
    local known_at, known_until = struct.unpack('<dd', known)
    if known_at > at then at, does = known_at, string.sub(known, 17) end
    keep = math.max(keep, known_until)
  elseif most > 0 and redis.call('HLEN', key) >= most then
    return redis.error_reply('RULES the tenant has too many')
  end
  redis.call('HSET', key, names, struct.pack('<dd', at, keep) .. does)
  n = n + 1
end

forget(redis.call('HRANDFIELD', key, 4 * n + 4, 'WITHVALUES'))
local life = math.min(math.max(math.ceil((keep_until - now + GRACE) / 1000), 1), LIFE_MAX)
if redis.call('PTTL', key) < life then redis.call('PEXPIRE', key, life) end
return redis.call('HLEN', key)
