-- Frees the places that touches hold in some caps; their claims stand. A touch without such a place is left alone.
--
-- KEYS[1]        identity of this memory, a hash
-- KEYS[2 .. n+1] memory of each recipient, and of the other logs in which the touch took places
-- ARGV[1]        n x (touch 8 bytes, rules u8, rules x 4 bytes)
--
-- Returns how many memories were changed.
-- Fails with RECOVERING while this memory reloads what it lost: a place that is not here yet could come back.
assert(#KEYS >= 2 and #ARGV == 1, "2 keys or more, 1 argument")

if redis.call('HGET', KEYS[1], 'recovering') == '1' then
  return redis.error_reply('RECOVERING this memory reloads what it lost')
end

local NO_PLACES = string.char(0)

-- Returns a set as a memory packs it without the rules that are gone.
local function without(packed, gone)
  local left = {}
  for r = 2, #packed, 12 do
    if not gone[sub(packed, r, r + 3)] then left[#left + 1] = sub(packed, r, r + 11) end
  end
  return string.char(#left) .. concat(left)
end

-- Returns a memory without the places of a touch in some rules; nothing where there is none. An entry that is no claim and
-- holds no place goes.
local function vacated(memory, touch, gone)
  local sets, told, p = parts_of(memory)
  local numbers, packed, entries, changed = {}, {}, {}, false
  while p <= #memory do
    local form, set, _, its, next = entry_at(memory, p)
    local places = sets[set] and sets[set].packed or NO_PLACES
    if its == touch then
      local left = without(places, gone)
      changed, places = changed or left ~= places, left
    end
    local number = places == NO_PLACES and 0 or numbers[places]
    if not number then
      number = #packed + 1
      numbers[places], packed[number] = number, places
    end
    if number > 0 or form == 1 or form == 2 then
      entries[#entries + 1] = write('<H', 4 * number + form) .. sub(memory, p + 2, next - 1)
    end
    p = next
  end
  if changed then return memory_of(concat(packed), told, concat(entries)), #entries end
end

local changes, p = 0, 1
for i = 2, #KEYS do
  local touch, rules = read('<c8B', ARGV[1], p)
  local gone = {}
  for r = p + 9, p + 8 + 4 * rules, 4 do gone[sub(ARGV[1], r, r + 3)] = true end
  p = p + 9 + 4 * rules
  local memory, entries = vacated(redis.call('GET', KEYS[i]) or '', touch, gone)
  if memory then
    if entries == 0 then
      redis.call('DEL', KEYS[i])
    else
      redis.call('SET', KEYS[i], memory, 'KEEPTTL')
    end
    changes = changes + 1
  end
end
return changes
