-- How a recipient's memory is read and written; in front of every script that does.
--
-- A memory is a string, little-endian:
--   sets u16 bytes, told u8,
--   the sets, one after the other: rules u8, then rules x (rule 4 bytes, weight u8, until u56),
--   told x (at u56, jobs u16): what those who wait were told, when so many of them come again,
--   the entries, newest first: form and four times the set (from 1; 0: none) u16, at u56, touch 8 bytes;
--     form 1 and 2 are claims: then deadline u56, attempt u16, token 8 bytes; form 2: then job 8 bytes, else it is the touch;
--     form 3 is what a claim took here whose recipient has another memory: then token and job, 8 bytes each.
-- An entry holds the places of its set: `until` says how long each is kept, as a life in microseconds below SHORT, else as
-- an instant. Claims mostly take the same few rules, so a memory has one or two sets.
local read, write, sub, byte = struct.unpack, struct.pack, string.sub, string.byte
local find = string.find
local max, min, ceil, floor, concat = math.max, math.min, math.ceil, math.floor, table.concat
-- As limits::CLAIM_LIFE.
local CLAIM_LIFE = 86400e6
-- No life of a place is as long, and no time as early: three years.
local SHORT = 1e14
-- How much longer than needed Redis keeps a memory, since its clock is not the callers'; and the longest life, in ms,
-- that prints as a whole number.
local GRACE, LIFE_MAX = 600e6, 9e13
-- The windows of takes, by number.
local ROLLING, FIXED, FROM_FIRST, BUCKET = 0, 1, 2, 3

-- Returns the sets that a memory packs: of each its bytes, how its rules are kept, the greatest weight, the longest life,
-- the last end; the number of those that hold some places, once it was looked for; and them by how entries start that
-- hold them.
local known_sets = {}
local function sets_of(packed)
  local sets = known_sets[packed]
  if not sets then
    sets = { packed = packed, by_kept = {}, by_head = {} }
    known_sets[packed] = sets
    local p = 1
    while p <= #packed do
      local rules = byte(packed, p)
      local set = { packed = sub(packed, p, p + 12 * rules), of = {}, weight = 0, life = 0, ends = 0 }
      for r = p + 1, p + 12 * rules, 12 do
        local rule, weight, til = read('<c4BI7', packed, r)
        set.of[rule] = { weight = weight, til = til }
        set.weight = max(set.weight, weight)
        if til < SHORT then
          set.life = max(set.life, til)
        else
          set.ends = max(set.ends, til)
        end
      end
      sets[#sets + 1] = set
      for form = 0, 3 do sets.by_head[4 * #sets + form] = set end
      p = p + 12 * rules + 1
    end
  end
  return sets
end

-- Returns a memory's parts: its sets, what was told, and where its entries start.
local function parts_of(memory)
  if memory == '' then return sets_of(''), '', 1 end
  local bytes, told = read('<HB', memory)
  return sets_of(sub(memory, 4, 3 + bytes)), sub(memory, 4 + bytes, 3 + bytes + 9 * told), 4 + bytes + 9 * told
end

-- Returns when the places of an entry end.
local function places_end(sets, set, at)
  local places = sets[set]
  return places and max(at + places.life, places.ends) or 0
end

-- Reads the entry at p: form, set, at, touch, where the next one is, and of a claim deadline, attempt, token, job; the
-- deadline of what is no claim is 0, so that it never claims.
local function entry_at(memory, p)
  local head, at, touch, q = read('<HI7c8', memory, p)
  local form = head % 4
  local set = (head - form) / 4
  if form == 0 then return form, set, at, touch, q, 0 end
  local deadline, attempt, token, job = 0, 0, '', touch
  if form == 3 then
    token, job, q = read('<c8c8', memory, q)
  else
    deadline, attempt, token, q = read('<I7Hc8', memory, q)
    if form == 2 then job, q = read('<c8', memory, q) end
  end
  return form, set, at, touch, q, deadline, attempt, token, job
end

-- Reads of the entry at p what tells whether it counts: form, set, at, where the next one is, deadline. No strings are made.
local ENTRY_BYTES = { [0] = 17, 34, 42, 33 }
local function glance_at(memory, p)
  local form = byte(memory, p) % 4
  local next = p + ENTRY_BYTES[form]
  if form == 1 or form == 2 then
    local head, at, _, deadline = read('<HI7dI7', memory, p)
    return form, (head - form) / 4, at, next, deadline
  end
  local head, at = read('<HI7', memory, p)
  return form, (head - form) / 4, at, next, 0
end

-- Returns a memory's sets and entries without the entries that have no meaning at `now`, without the claims and sets that
-- have none any more, and without the entry of this job and token, if one is given; and until when there is something
-- that has one.
local function prune(memory, now, gone_job, gone_token)
  local sets, _, p = parts_of(memory)
  local numbers, packed, entries, until_at = {}, {}, {}, 0
  while p <= #memory do
    local form, set, at, _, next, deadline, _, token, job = entry_at(memory, p)
    local ends = places_end(sets, set, at)
    local claims = deadline + CLAIM_LIFE > now
    if (claims or ends > now) and not (token and token == gone_token and job == gone_job) then
      until_at = max(until_at, ends, claims and deadline + CLAIM_LIFE or 0)
      local number = 0
      if ends > now then
        number = numbers[set]
        if not number then
          number = #packed + 1
          numbers[set], packed[number] = number, sets[set].packed
        end
      end
      local whole = claims or form == 3
      local head = write('<H', 4 * number + (whole and form or 0))
      entries[#entries + 1] = head .. sub(memory, p + 2, whole and next - 1 or p + 16)
    end
    p = next
  end
  return concat(packed), concat(entries), until_at
end

-- Returns when a place leaves the window of a take, if it is in it.
local function counted_until(take, place, at, now)
  local span, ends = take.span, nil
  if span == ROLLING then
    ends = at + take.a
  elseif span == FIXED then
    return at >= take.a and take.b or nil
  else
    ends = place.til
  end
  return ends > now and ends or nil
end

-- Returns how long Redis keeps what has a meaning until then, in ms.
local function life_of(until_at, now)
  return max(min(ceil((until_at - now + GRACE) / 1000), LIFE_MAX), 1)
end

-- Returns a memory from its parts.
local function memory_of(sets, told, entries)
  return write('<HB', #sets, #told / 9) .. sets .. told .. entries
end

