-- Remembers submits with idempotency keys as pending, unless they are known.
--
-- KEYS[1]          identity of this memory, a hash
-- KEYS[2 .. n+1]   memo of each submit
-- ARGV[1]          the identity's id, as the caller knows it
-- ARGV[2]          now, in microseconds since the epoch
-- ARGV[3]          n x (fingerprint 16 bytes, until f64)
--
-- A memo is (fingerprint 16 bytes, until f64, accepted u8).
--
-- Returns a string of n digits: 0 new, 1 pending, 2 accepted, 3 used for something else.
-- Fails with IDENTITY when this is another memory than the caller knows.
assert(#KEYS >= 1 and #ARGV == 3 and #ARGV[3] == 24 * (#KEYS - 1), "1 key or more, 3 arguments")

if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then
  return redis.error_reply('IDENTITY this memory has changed')
end

local now = tonumber(ARGV[2])
-- How much longer than needed Redis keeps a memo, since its clock is not the callers'; and the longest life, in ms,
-- that prints as a whole number.
local GRACE, LIFE_MAX = 600e6, 9e13
local met = {}
for i = 1, #KEYS - 1 do
  local fingerprint, until_at = struct.unpack('<c16d', ARGV[3], 24 * i - 23)
  local memo = redis.call('GET', KEYS[i + 1])
  local known, known_until, accepted
  if memo then known, known_until, accepted = struct.unpack('<c16dB', memo) end
  if not memo or known_until <= now then
    local life = math.min(math.max(math.ceil((until_at - now + GRACE) / 1000), 1), LIFE_MAX)
    redis.call('SET', KEYS[i + 1], struct.pack('<c16dB', fingerprint, until_at, 0), 'PX', life)
    met[i] = '0'
  elseif known ~= fingerprint then
    met[i] = '3'
  else
    met[i] = accepted == 1 and '2' or '1'
  end
end
return table.concat(met)
