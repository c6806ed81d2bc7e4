-- Takes what a submit needs of its tenant's quotas: for its items in their order, up to the first that some quota has no
-- room for. A submit with a key is remembered with that in the same step, as pending, unless it is known: then nothing is
-- taken, and it is told what was let in when it came first.
--
-- KEYS[1]         identity of this memory, a hash
-- KEYS[2]         memo of the submit; the identity again where it has no key
-- KEYS[3 .. m+2]  counter of each quota's window, what was taken of it, f64
-- ARGV[1]         the identity's id, as the caller knows it
-- ARGV[2]         now, in microseconds since the epoch
-- ARGV[3]         fingerprint 16 bytes, until f64; empty: it has no key
-- ARGV[4]         m x (what it counts u8 (0 jobs, 1 money), how much f64, when its window ends f64)
-- ARGV[5]         the items, in runs of equal ones: n u32, then what each needs: jobs f64, money f64
--
-- A memo is (fingerprint 16 bytes, until f64, accepted u8), and where not all was let in how many items were, u32.
--
-- Returns a string: a digit (0 new, 1 pending, 2 accepted, 3 used for something else), items let in u32 (4294967295: all), the quota without room u8 (255: none).
-- Fails with IDENTITY when this is another memory than the caller knows.
local QUOTA = 17
assert(#KEYS >= 2 and #ARGV == 5 and #ARGV[4] == QUOTA * (#KEYS - 2), "2 keys or more, 5 arguments")

if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then
  return redis.error_reply('IDENTITY this memory has changed')
end

local now, key = tonumber(ARGV[2]), ARGV[3]
-- How much longer than needed Redis keeps a memo, since its clock is not the callers'; how long after its window a counter
-- is kept; and the longest life, in ms, that prints as a whole number.
local GRACE, KEPT, LIFE_MAX = 600e6, 3600e6, 9e13
local ALL, NONE = 4294967295, 255
local function life(until_at, spare)
  return math.min(math.max(math.ceil((until_at - now + spare) / 1000), 1), LIFE_MAX)
end

local fingerprint, until_at
if key ~= '' then
  fingerprint, until_at = struct.unpack('<c16d', key)
  local memo = redis.call('GET', KEYS[2])
  if memo then
    local known, known_until, accepted = struct.unpack('<c16dB', memo)
    if known_until > now then
      local items = #memo > 25 and struct.unpack('<I4', memo, 26) or ALL
      local met = known ~= fingerprint and '3' or accepted == 1 and '2' or '1'
      return met .. struct.pack('<I4B', items, NONE)
    end
  end
end

local quotas = {}
for i = 1, #KEYS - 2 do
  local money, most, ends_at = struct.unpack('<Bdd', ARGV[4], QUOTA * i - QUOTA + 1)
  local stored = redis.call('GET', KEYS[i + 2])
  local used = stored and struct.unpack('<d', stored) or 0
  quotas[i] = { money = money == 1, most = most, ends_at = ends_at, used = used }
end

local items, full, p = 0, NONE, 1
while p <= #ARGV[5] and full == NONE do
  local count, jobs, money
  count, jobs, money, p = struct.unpack('<I4dd', ARGV[5], p)
  for i, quota in ipairs(quotas) do
    quota.need = quota.money and money or jobs
    -- What needs nothing fits even where more was taken than the quota is by now.
    local fits = quota.need > 0 and math.floor(math.max(quota.most - quota.used, 0) / quota.need) or math.huge
    if fits < count then count, full = fits, i - 1 end
  end
  for _, quota in ipairs(quotas) do quota.used = quota.used + quota.need * count end
  items = items + count
end

if items > 0 then
  for i, quota in ipairs(quotas) do
    redis.call('SET', KEYS[i + 2], struct.pack('<d', quota.used), 'PX', life(quota.ends_at, KEPT))
  end
  if key ~= '' then
    local memo = struct.pack('<c16dB', fingerprint, until_at, 0)
    if full ~= NONE then memo = memo .. struct.pack('<I4', items) end
    redis.call('SET', KEYS[2], memo, 'PX', life(until_at, GRACE))
  end
end
return '0' .. struct.pack('<I4B', items, full)
