-- Does what happens to one-time consents, one after the other, and says what is known then.
--
-- KEYS[1]         identity of this memory, a hash
-- KEYS[2 .. n+1]  consents of one person to one template each: left u8, exact u8 (1: there are no others), the second
--                 at which they were last taken back u32, given u8, given x (id 8 bytes, the second u32), jobs x (id 8
--                 bytes, given since it took its own u8)
-- ARGV[1]         the identity's id, as the caller knows it
-- ARGV[2]         how long they are kept after the last act, in milliseconds
-- ARGV[3]         n x (act u8 (0 given, 1 withdrawn, 2 taken, 3 returned, 4 denied), id 8 bytes, second u32)
--
-- Returns a string of n x u16: how many are left; 256: a job asked for one and there is none; 257: it is not known whether there
-- are others.
-- Fails with IDENTITY when this is another memory than the caller knows.
assert(#KEYS >= 2 and #ARGV == 3 and #ARGV[3] == 13 * (#KEYS - 1), "2 keys or more, 3 arguments")

if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then
  return redis.error_reply('IDENTITY this memory has changed')
end

-- As limits::consent::REMEMBERED.
local REMEMBERED, NONE, UNKNOWN = 16, 256, 257
local GIVEN, WITHDRAWN, TAKEN, RETURNED, DENIED = 0, 1, 2, 3, 4

-- Returns where an id stands among others, each of which takes so many bytes.
local function place(ids, id, bytes)
  for p = 1, #ids, bytes do
    if string.sub(ids, p, p + 7) == id then return p end
  end
end

local function remember(ids, id)
  if #ids >= #id * REMEMBERED then ids = string.sub(ids, #id + 1) end
  return ids .. id
end

local function without(jobs, p) return string.sub(jobs, 1, p - 1) .. string.sub(jobs, p + 9) end

-- Does what happens to consents. Returns whether that changes anything, and what is said instead of how many are left.
local function happen(consent, act, id, second)
  if act == GIVEN then
    if second < consent.withdrawn_at or place(consent.given, id, 12) then return false end
    consent.left = math.min(consent.left + 1, 255)
    local jobs = {}
    for p = 1, #consent.jobs, 9 do
      local since = math.min(string.byte(consent.jobs, p + 8) + 1, 255)
      jobs[#jobs + 1] = string.sub(consent.jobs, p, p + 7) .. string.char(since)
    end
    consent.jobs = table.concat(jobs)
    consent.given = remember(consent.given, id .. struct.pack('<I4', second))
    return true
  elseif act == WITHDRAWN then
    if second <= consent.withdrawn_at then return false end
    local since = 0
    for p = 1, #consent.given, 12 do
      if struct.unpack('<I4', consent.given, p + 8) >= second then since = since + 1 end
    end
    -- Nor do those that were taken come back.
    consent.left, consent.exact, consent.withdrawn_at, consent.jobs = math.min(consent.left, since), 1, second, ''
    return true
  end
  local took = place(consent.jobs, id, 9)
  if act == TAKEN then
    if took then return false end
    if consent.left == 0 then return false, consent.exact == 1 and NONE or UNKNOWN end
    consent.left, consent.jobs = consent.left - 1, remember(consent.jobs, id .. '\0')
    return true
  elseif act == RETURNED then
    if not took then return false end
    consent.left, consent.jobs = math.min(consent.left + 1, 255), without(consent.jobs, took)
    return true
  end
  if took then
    local since = string.byte(consent.jobs, took + 8)
    consent.left, consent.exact, consent.jobs = math.min(consent.left, since), 1, without(consent.jobs, took)
    return true
  end
  if consent.left > 0 or consent.exact == 1 then return false end
  consent.exact = 1
  return true
end

local answers = {}
for i = 2, #KEYS do
  local act, id, second = struct.unpack('<Bc8I4', ARGV[3], 13 * (i - 2) + 1)
  local known = redis.call('GET', KEYS[i])
  if not known and (act == TAKEN or act == RETURNED) then
    answers[i - 1] = struct.pack('<H', UNKNOWN)
  else
    local consent = { left = 0, exact = 0, withdrawn_at = 0, given = '', jobs = '' }
    if known then
      local count
      consent.left, consent.exact, consent.withdrawn_at, count = struct.unpack('<BBI4B', known)
      consent.given, consent.jobs = string.sub(known, 8, 7 + 12 * count), string.sub(known, 8 + 12 * count)
    end
    local changed, said = happen(consent, act, id, second)
    if changed or not known then
      local packed = struct.pack('<BBI4B', consent.left, consent.exact, consent.withdrawn_at, #consent.given / 12)
      redis.call('SET', KEYS[i], packed .. consent.given .. consent.jobs, 'PX', ARGV[2])
    end
    answers[i - 1] = struct.pack('<H', said or consent.left)
  end
end
return table.concat(answers)
