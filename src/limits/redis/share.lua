-- Says how many places of something one node may hold: its even share, as far as the others have left it.
--
-- KEYS[1]   identity of this memory, a hash
-- KEYS[2]   who holds how many: 8 bytes of the memory's id, the first and the last time anybody asked it d d, then
--           nodes x (who 8 bytes, turn d, places u16, until d)
-- ARGV[1]   the identity's id, as the caller knows it
-- ARGV[2]   now, in microseconds since the epoch; below zero: by the clock of this server, so that nodes whose clocks differ
--           agree on who is there
-- ARGV[3]   how long a node is believed to hold its places, the same
-- ARGV[4]   who 8 bytes, turn d, total u16, holds u16, leaves u8
--
-- Returns how many.
-- Fails with IDENTITY when this is another memory than the caller knows.
assert(#KEYS == 2 and #ARGV == 4 and #ARGV[4] == 21, "2 keys, 4 arguments")

local id = redis.call('HGET', KEYS[1], 'id')
if id ~= ARGV[1] then
  return redis.error_reply('IDENTITY this memory has changed')
end
local memory = string.sub(id, -8)
local now, life = tonumber(ARGV[2]), tonumber(ARGV[3])
if now < 0 then
  local time = redis.call('TIME')
  now = time[1] * 1e6 + time[2]
end
local who, turn, total, holds, leaves = struct.unpack('<c8dHHB', ARGV[4])

local state = redis.call('GET', KEYS[2]) or ''
local known, first, last = memory, now, now
if state ~= '' then known, first, last = struct.unpack('<c8dd', state) end
now = math.max(now, last)
-- While nobody could ask, nobody's time runs.
local silence = now - last
if silence < life / 3 then silence = 0 end
first = first + silence
-- What another memory left here, as after a failover, may lack what was said last.
if known ~= memory then first = now end

local nodes, taken, names, overtaken = {}, 0, { who }, false
for p = 25, #state, 26 do
  local other, told, places, til = struct.unpack('<c8dHd', state, p)
  til = til + silence
  local own = other == who
  if til > now and (not own or turn < told) then
    nodes[#nodes + 1] = struct.pack('<c8dHd', other, told, places, til)
    if own then
      -- A question of the same node that came later has been answered.
      overtaken = true
    else
      names[#names + 1] = other
      taken = taken + places
    end
  end
end

local allowed = 0
if leaves == 0 and not overtaken then
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
  -- A memory does not know who holds what before everybody who is there has had the time to ask.
  if now - first < life / 3 then allowed = math.min(allowed, holds) end
  nodes[#nodes + 1] = struct.pack('<c8dHd', who, turn, math.max(holds, allowed), now + life)
end
redis.call('SET', KEYS[2], struct.pack('<c8dd', memory, first, now) .. table.concat(nodes), 'PX', 86400000)
return allowed
