-- Notes the newest job of each of some collapse keys: the latest accepted, and of those accepted in the same microsecond
-- the one with the greatest id.
--
-- KEYS[1]         identity of this memory, a hash
-- KEYS[2 .. n+1]  what is newest under each collapse key
-- ARGV[1]         the identity's id, as the caller knows it
-- ARGV[2]         now, in microseconds since the epoch
-- ARGV[3]         until when it is kept, the same
-- ARGV[4]         n x (at f64, job 16 bytes)
--
-- A note is a string: at f64, keep_until f64, job 16 bytes.
--
-- Fails with IDENTITY when this is another memory than the caller knows.
assert(#KEYS >= 2 and #ARGV == 4 and #ARGV[4] == 24 * (#KEYS - 1), "2 keys or more, 4 arguments")

if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then
  return redis.error_reply('IDENTITY this memory has changed')
end

local now, keep_until = tonumber(ARGV[2]), tonumber(ARGV[3])
-- As in rule.lua.
local GRACE, LIFE_MAX = 600e6, 9e13
for i = 2, #KEYS do
  local at, job = struct.unpack('<dc16', ARGV[4], 24 * (i - 2) + 1)
  local keep = keep_until
  local known = redis.call('GET', KEYS[i])
  if known then
    local known_at, known_until, known_job = struct.unpack('<ddc16', known)
    if known_at > at or known_at == at and known_job > job then at, job = known_at, known_job end
    keep = math.max(keep, known_until)
  end
  local life = math.min(math.max(math.ceil((keep - now + GRACE) / 1000), 1), LIFE_MAX)
  redis.call('SET', KEYS[i], struct.pack('<ddc16', at, keep, job), 'PX', life)
end
return redis.status_reply('OK')
