-- Gives back the claims and caps of attempts that definitely did not go out. Unknown and newer ones are left alone.
--
-- KEYS[1 .. n]   memory of each claim's recipient, and of the other logs that it took places in
-- ARGV[1]        n x (job 8 bytes, token 8 bytes)
--
-- Returns how many were given back.
assert(#KEYS >= 1 and #ARGV == 1 and #ARGV[1] == 16 * #KEYS, "1 key or more, 1 argument of 16 bytes a key")

local given = 0
for i = 1, #KEYS do
  local gone_job, gone_token = read('<c8c8', ARGV[1], 16 * i - 15)
  local memory = redis.call('GET', KEYS[i]) or ''
  local _, _, start = parts_of(memory)
  local p = start
  while p <= #memory do
    local _, _, _, _, next, _, _, token, job = entry_at(memory, p)
    if token == gone_token and job == gone_job then
      memory = sub(memory, 1, p - 1) .. sub(memory, next)
      if #memory < start then
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
