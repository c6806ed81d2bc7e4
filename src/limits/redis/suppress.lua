-- Adds an opt-out to those of an address; an earlier one of the same scope and source gives way.
--
-- KEYS[1]   identity of this memory, a hash
-- KEYS[2]   opt-outs of the address
-- ARGV[1]   the identity's id, as the caller knows it
-- ARGV[2]   the opt-out: scope u8, word 16 bytes, source u8, at f64
--
-- Returns how many the address has.
-- Fails with IDENTITY when this is another memory than the caller knows.
assert(#KEYS == 2 and #ARGV == 2 and #ARGV[2] == 26, "2 keys, 2 arguments")

if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then
  return redis.error_reply('IDENTITY this memory has changed')
end

local known = redis.call('GET', KEYS[2]) or ''
local kept = { ARGV[2] }
for p = 1, #known, 26 do
  if string.sub(known, p, p + 17) ~= string.sub(ARGV[2], 1, 18) then
    kept[#kept + 1] = string.sub(known, p, p + 25)
  end
end
redis.call('SET', KEYS[2], table.concat(kept))
return #kept
