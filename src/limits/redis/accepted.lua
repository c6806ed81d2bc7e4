-- Marks remembered submits as accepted; unknown ones are left alone.
--
-- KEYS[1 .. n]   memo of each submit, as in spend.lua
--
-- Returns how many are known.
assert(#KEYS >= 1 and #ARGV == 0, "1 key or more, no argument")

local known = 0
for i = 1, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 1 then
    redis.call('SETRANGE', KEYS[i], 24, '\1')
    known = known + 1
  end
end
return known
