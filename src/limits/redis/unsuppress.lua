-- Takes back the opt-outs of a scope and kind that one source brought, or that any source brought.
--
-- KEYS[1]   identity of this memory, a hash
-- KEYS[2]   where it is kept, as in suppress.lua
-- ARGV[1]   the address, 16 bytes
-- ARGV[2]   scope u8, word 16 bytes, kind u8
-- ARGV[3]   the source's number; empty: any
--
-- Returns how many the address has left there.
-- Fails with RECOVERING while this memory reloads what it lost: what is taken back could come back.
assert(#KEYS == 2 and #ARGV == 3 and #ARGV[2] == 18, "2 keys, 3 arguments")

if redis.call('HGET', KEYS[1], 'recovering') == '1' then
  return redis.error_reply('RECOVERING this memory reloads what it lost')
end

local GLOBAL = 5
local everybody = string.byte(ARGV[2]) == GLOBAL
local known = (everybody and redis.call('HGET', KEYS[2], ARGV[1]) or not everybody and redis.call('GET', KEYS[2])) or ''
local kept = {}
for p = 1, #known, 27 do
  local meant = string.sub(known, p, p + 17) == ARGV[2]
  local brought = ARGV[3] == '' or string.byte(known, p + 18) == tonumber(ARGV[3])
  if not (meant and brought) then
    kept[#kept + 1] = string.sub(known, p, p + 26)
  end
end
if #kept > 0 and everybody then
  redis.call('HSET', KEYS[2], ARGV[1], table.concat(kept))
elseif #kept > 0 then
  redis.call('SET', KEYS[2], table.concat(kept))
elseif everybody then
  redis.call('HDEL', KEYS[2], ARGV[1])
else
  redis.call('DEL', KEYS[2])
end
return #kept
