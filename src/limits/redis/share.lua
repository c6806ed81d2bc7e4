-- Says how many places of something one node may hold: its even share, as far as the others have left it.
--
-- KEYS[1]   identity of this memory, a hash
-- KEYS[2]   who holds how many: last time anybody asked d, then nodes x (who 8 bytes, places u16, until d)
-- ARGV[1]   the identity's id, as the caller knows it
-- ARGV[2]   now, in microseconds since the epoch
-- ARGV[3]   how long a node is believed to hold its places, the same
-- ARGV[4]   who 8 bytes, total u16, holds u16, leaves u8
--
-- Returns how many.
-- Fails with IDENTITY when this is another memory than the caller knows.
assert(#KEYS == 2 and #ARGV == 4 and #ARGV[4] == 13, "2 keys, 4 arguments")

local known = redis.call('HMGET', KEYS[1], 'id', 'recovering')
if known[1] ~= ARGV[1] then
  return redis.error_reply('IDENTITY this memory has changed')
end
local now, life = tonumber(ARGV[2]), tonumber(ARGV[3])
local who, total, holds, leaves = struct.unpack('<c8HHB', ARGV[4])

local state = redis.call('GET', KEYS[2]) or ''
local last = state ~= '' and struct.unpack('<d', state) or now
now = math.max(now, last)
-- While nobody could ask, nobody's time runs.
local silence = now - last
if silence < life / 3 then silence = 0 end

local nodes, taken, names = {}, 0, { who }
for p = 9, #state, 18 do
  local other, places, til = struct.unpack('<c8Hd', state, p)
  til = til + silence
  if other ~= who and til > now then
    nodes[#nodes + 1] = struct.pack('<c8Hd', other, places, til)
    names[#names + 1] = other
    taken = taken + places
  end
end

local allowed = 0
if leaves == 0 then
  table.sort(names)
  local rank = 0
  for i = 1, #names do
    if names[i] == who then rank = i - 1 end
  end
  local rest = total % #names
  allowed = (total - rest) / #names
  if rank < rest then allowed = allowed + 1 end
  -- Whoever has some keeps one: a node without any could carry nothing.
  if holds > 0 then allowed = math.max(allowed, 1) end
  allowed = math.max(math.min(allowed, total - taken), 0)
  -- A new memory does not know yet who holds what.
  if known[2] == '1' then allowed = math.min(allowed, holds) end
  nodes[#nodes + 1] = struct.pack('<c8Hd', who, math.max(holds, allowed), now + life)
end
redis.call('SET', KEYS[2], struct.pack('<d', now) .. table.concat(nodes), 'PX', 86400000)
return allowed
