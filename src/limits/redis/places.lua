-- Says which places are taken in caps; writes nothing.
--
-- KEYS[1]          identity of this memory, a hash
-- KEYS[2 .. n+1]   the log of each take
-- ARGV[1]          the identity's id, as the caller knows it
-- ARGV[2]          now, in microseconds since the epoch
-- ARGV[3]          the takes, u8 and packed as in claim.lua
--
-- Returns a string: of each take how many places u16, then those x (at f64, until f64, weight u8, job 8 bytes,
-- touch 8 bytes), newest first.
-- Fails with IDENTITY when this is another memory than the caller knows.
assert(#KEYS >= 1 and #ARGV == 3, "1 key or more, 3 arguments")

if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then
  return redis.error_reply('IDENTITY this memory has changed')
end

local now, answer = tonumber(ARGV[2]), {}
for t = 1, #KEYS - 1 do
  local rule, _, _, _, span, a, b = read('<c4HHBBdd', ARGV[3], 27 * t - 25)
  local take = { span = span, a = a, b = b }
  local memory = redis.call('GET', KEYS[t + 1]) or ''
  local sets, _, p = parts_of(memory)
  local held = {}
  while p <= #memory do
    local _, set, at, touch, next, _, _, _, job = entry_at(memory, p)
    local place = sets[set] and sets[set].of[rule]
    local counted = place and counted_until(take, place, at, now)
    if counted then held[#held + 1] = write('<ddBc8c8', at, counted, place.weight, job or touch, touch) end
    p = next
  end
  answer[t] = write('<H', #held) .. table.concat(held)
end
return table.concat(answer)
