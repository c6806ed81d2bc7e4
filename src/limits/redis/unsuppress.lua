-- Takes back the opt-outs of a scope that one source brought, or that any source brought.
--
-- KEYS[1]   opt-outs of the address, as in suppress.lua
-- ARGV[1]   scope u8, word 16 bytes
-- ARGV[2]   the source's number; empty: any
--
-- Returns how many the address has left.
assert(#KEYS == 1 and #ARGV == 2 and #ARGV[1] == 17, "1 key, 2 arguments")

local known = redis.call('GET', KEYS[1]) or ''
local kept = {}
for p = 1, #known, 26 do
  local scoped = string.sub(known, p, p + 16) == ARGV[1]
  local brought = ARGV[2] == '' or string.byte(known, p + 17) == tonumber(ARGV[2])
  if not (scoped and brought) then
    kept[#kept + 1] = string.sub(known, p, p + 25)
  end
end
if #kept == 0 then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], table.concat(kept))
end
return #kept
