-- Adds opt-outs to those of their addresses; an earlier one of the same scope, kind and source gives way.
--
-- KEYS[1]          identity of this memory, a hash
-- KEYS[2 .. n+1]   where each is kept: the opt-outs of its address, or those from every tenant, a hash by address
-- ARGV[1]          the identity's id, as the caller knows it
-- ARGV[2]          n x (address 16 bytes, scope u8, word 16 bytes, kind u8, source u8, at f64)
--
-- Returns n.
-- Fails with IDENTITY when this is another memory than the caller knows.
assert(#KEYS >= 2 and #ARGV == 2 and #ARGV[2] == 43 * (#KEYS - 1), "2 keys or more, 2 arguments")

if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then
  return redis.error_reply('IDENTITY this memory has changed')
end

local GLOBAL = 5
for i = 1, #KEYS - 1 do
  local key, from = KEYS[i + 1], 43 * i - 42
  local address, optout = string.sub(ARGV[2], from, from + 15), string.sub(ARGV[2], from + 16, from + 42)
  local everybody = string.byte(optout) == GLOBAL
  local known = (everybody and redis.call('HGET', key, address) or not everybody and redis.call('GET', key)) or ''
  local kept = { optout }
  for p = 1, #known, 27 do
    if string.sub(known, p, p + 18) ~= string.sub(optout, 1, 19) then
      kept[#kept + 1] = string.sub(known, p, p + 26)
    end
  end
  if everybody then
    redis.call('HSET', key, address, table.concat(kept))
  else
    redis.call('SET', key, table.concat(kept))
  end
end
return #KEYS - 1
