-- Gives back the claims and caps of attempts that definitely did not go out. Unknown and newer ones are left alone.
--
-- KEYS[1 .. n]   memory of each claim's recipient, as in claim.lua
-- ARGV[1]        n x (job 8 bytes, token 8 bytes)
--
-- Returns how many were given back.
assert(#KEYS >= 1 and #ARGV == 1 and #ARGV[1] == 16 * #KEYS, "1 key or more, 1 argument of 16 bytes a key")

local read, sub = struct.unpack, string.sub
local given = 0
for i = 1, #KEYS do
  local job, token = read('<c8c8', ARGV[1], 16 * i - 15)
  local memory = redis.call('GET', KEYS[i]) or ''
  local p = 1
  while p <= #memory do
    local rules, _, _, its_job, its_token = read('<Bddc8c8', memory, p)
    local next = p + 43 + 8 * rules
    if its_job == job and its_token == token then
      memory = sub(memory, 1, p - 1) .. sub(memory, next)
      if memory == '' then
        redis.call('DEL', KEYS[i])
      else
        redis.call('SET', KEYS[i], memory, 'KEEPTTL')
      end
      given = given + 1
      break
    end
    p = next
  end
end
return given
