-- Leases tokens of buckets that all nodes share.
--
-- KEYS[1 .. n]   the buckets, each a string of level f64 (in millionths of a token, below zero after a forced lease),
--                at f64 (in microseconds since the epoch), rate u32 (per second), burst u32
-- ARGV[1]        now, in microseconds since the epoch
-- ARGV[2]        n x (rate u32, burst u32, keep u32, want u32, mode u8: 0 up to the wish, 1 whole, 2 by force)
--
-- Returns a string of n x (tokens u32, next_at f64).
assert(#KEYS >= 1 and #ARGV == 2 and #ARGV[2] == 17 * #KEYS, "1 key or more, 2 arguments")

local TOKEN = 1e6
local granted = {}
for i = 1, #KEYS do
  local rate, burst, keep, want, mode = struct.unpack('<I4I4I4I4B', ARGV[2], 17 * i - 16)
  local now = tonumber(ARGV[1])
  local level = burst * TOKEN
  local bucket = redis.call('GET', KEYS[i])
  if bucket then
    local old, at, old_rate, old_burst = struct.unpack('<ddI4I4', bucket)
    -- Time never steps back; what has passed was filled at the rate that held then.
    now = math.max(now, at)
    level = math.min(old + (now - at) * old_rate, old_burst * TOKEN, level)
  end
  -- What is kept can never be the whole bucket, or nobody who must leave it would ever have a token.
  keep = math.min(keep, burst - 1)
  if mode == 1 then want = math.min(want, burst - keep) end
  local there = math.floor(math.max(level - keep * TOKEN, 0) / TOKEN)
  local tokens = want
  if mode == 0 then
    tokens = math.min(want, there)
  elseif mode == 1 and want > there then
    tokens = 0
  end
  level = level - tokens * TOKEN
  local missing = 0
  if tokens < want then
    missing = (mode == 0 and TOKEN or want * TOKEN) + keep * TOKEN - level
  end
  granted[i] = struct.pack('<I4d', tokens, now + math.ceil(math.max(missing, 0) / rate))
  -- A full bucket is the same as none.
  local life = math.ceil((burst * TOKEN - level) / rate / 1000) + 60000
  redis.call('SET', KEYS[i], struct.pack('<ddI4I4', level, now, rate, burst), 'PX', life)
end
return table.concat(granted)
