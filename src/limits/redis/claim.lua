-- Claims jobs with all the caps they need, or nothing of each; reads the opt-outs and cancellations that stand against
-- them. A repeated call with the same tokens takes nothing twice.
--
-- KEYS[1]              identity of this memory, a hash
-- KEYS[2 .. n+1]       memory of each claim's recipient
-- KEYS[n+2 .. 2n+1]    opt-outs of each claim's address
-- KEYS[2n+2 .. ]       cancellations of the tenants that the claims belong to, hashes
-- KEYS[last]           opt-outs from every tenant, a hash by address
-- ARGV[1]              the identity's id, as the caller knows it
-- ARGV[2]              now, in microseconds since the epoch
-- ARGV[3]              since when this memory is whole, the same
-- ARGV[4]              n
-- ARGV[5]              the claims, packed one after the other, little-endian:
--                      job 8 bytes, token 8 bytes, touch 8 bytes, attempt u16, supersedes u16, deadline f64,
--                      seen f64 (below 0: none), tenant u16 (index of its cancellations, from 0),
--                      rules u8, then a string of rules x (rule u32, life u32 in s): what an entry keeps,
--                      rules x (limit u32, window f64 in us, drop u8),
--                      touting u8 (whether opt-outs bind the class that are not from everything), kind u8,
--                      address 16 bytes, sender, signature and topic 17 bytes each (scope number, word;
--                      scope 255: none),
--                      targets u8, then targets x 17 bytes: names of the cancellations that would bind it,
--                      accepted_at f64
--
-- A recipient's memory is a string of entries, newest first: rules u8, at f64, deadline f64, job, token, touch 8 bytes
-- each, attempt u16, rules x (rule u32, life u32). An entry is a claim, and the log of its caps at once.
--
-- Returns a string of n x (verdict u8, argument u16, time f64):
--   0 claimed, 1 held (attempt, deadline), 2 forgotten, 3 suppressed (scope number), 4 cancelled,
--   5 over a cap (index of the rule from 0, when all have room).
-- Fails with IDENTITY when this is another memory than the caller knows.
assert(#KEYS >= 4 and #ARGV == 5, "4 keys or more, 5 arguments")

if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then
  return redis.error_reply('IDENTITY this memory has changed')
end

local read, write, sub = struct.unpack, struct.pack, string.sub
local asked_at, changed_at, n, asks = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
-- As limits::CLAIM_LIFE.
local CLAIM_LIFE = 86400e6
-- How much longer than needed Redis keeps a memory, since its clock is not the callers'; and the longest life, in ms,
-- that prints as a whole number.
local GRACE, LIFE_MAX = 600e6, 9e13
local CLAIMED = write('<BHd', 0, 0, 0)

local memories = redis.call('MGET', unpack(KEYS, 2, n + 1))
local optouts = redis.call('MGET', unpack(KEYS, n + 2, 2 * n + 1))
local everybody = redis.call('EXISTS', KEYS[#KEYS]) == 1 and KEYS[#KEYS]
local latest = {}
local cancelling = {}
for i = 2 * n + 2, #KEYS - 1 do
  cancelling[i - 2 * n - 2] = redis.call('EXISTS', KEYS[i]) == 1 and KEYS[i]
end

-- Returns the longest life in a string of rules, in us.
local lives = {}
local function life_max(rules)
  local life = lives[rules]
  if not life then
    life = 0
    for p = 5, #rules, 8 do
      life = math.max(life, (read('<I4', rules, p)))
    end
    life = life * 1e6
    lives[rules] = life
  end
  return life
end

-- Returns the takes that a claim packs at p; claims of a batch mostly pack the same.
local known_takes = {}
local function takes_at(p, count)
  local packed = sub(asks, p, p + 21 * count - 1)
  local takes = known_takes[packed]
  if not takes then
    takes = { rules = sub(packed, 1, 8 * count) }
    for t = 1, count do
      local limit, window, drop = read('<I4dB', packed, 8 * count + 13 * (t - 1) + 1)
      takes[t] = { rule = sub(packed, 8 * t - 7, 8 * t - 4), kept = sub(packed, 8 * t - 7, 8 * t), limit = limit,
                   window = window, drop = drop == 1 }
    end
    known_takes[packed] = takes
  end
  return takes
end

-- Returns the widest opt-out in a string of (scope u8, word 16 bytes, kind u8, source u8, at f64) that binds the job.
local function suppressing(optouts, ask)
  local widest
  for p = 1, #optouts, 27 do
    local scope, kind = string.byte(optouts, p), string.byte(optouts, p + 17)
    local named = sub(optouts, p, p + 16)
    local reaches = scope == 4 or ask.touting == 1 and
      (scope == 3 or scope == 5 or named == ask.sender or named == ask.signature or named == ask.topic)
    if reaches and (kind == 255 or kind == ask.kind) and (not widest or scope > widest) then widest = scope end
  end
  return widest
end

local function cancelled(tenant, p, count, accepted_at, now)
  local key = cancelling[tenant]
  if not key then return false end
  local targets = {}
  for t = 1, count do targets[t] = sub(asks, p + 17 * (t - 1), p + 17 * t - 1) end
  for _, cancel in ipairs(redis.call('HMGET', key, unpack(targets))) do
    if cancel then
      local at, keep_until = read('<dd', cancel)
      if keep_until > now and accepted_at <= at then return true end
    end
  end
  return false
end

-- Reads a recipient's memory. Returns the claim that stands for the job, what the caps count, what is live of the
-- memory, until when, and where in it the entry of this token lies.
local function remember(memory, now, job, token, touch, takes)
  local standing, own_from, own_to
  local counts, opens, has = {}, {}, {}
  local live, dead_before, until_at = {}, 1, 0
  local p, length = 1, #memory
  while p <= length do
    local rules, at, deadline, its_job, its_token, its_touch, attempt, q = read('<Bddc8c8c8H', memory, p)
    local next = q + 8 * rules
    local kept = sub(memory, q, next - 1)
    local ends = math.max(deadline + CLAIM_LIFE, at + life_max(kept))
    if ends <= now then
      live[#live + 1] = sub(memory, dead_before, p - 1)
      dead_before = next
    else
      until_at = math.max(until_at, ends)
      if its_job == job and deadline + CLAIM_LIFE > now then
        if not standing or attempt > standing.attempt then
          standing = { attempt = attempt, deadline = deadline, token = its_token }
        end
        if its_token == token then own_from, own_to = p, next end
      end
      local same = kept == takes.rules
      for t = 1, #takes do
        local take = takes[t]
        local frees = at + take.window
        if frees > now then
          local found = same
          if not same then
            for r = 1, #kept, 8 do found = found or sub(kept, r, r + 3) == take.rule end
          end
          if found then
            if its_touch == touch then
              has[t] = true
            else
              counts[t] = (counts[t] or 0) + 1
              -- Newest first: once this one has left the window, one less than the limit is in it.
              if counts[t] == take.limit then opens[t] = frees end
            end
          end
        end
      end
    end
    p = next
  end
  if dead_before > 1 then
    live[#live + 1] = sub(memory, dead_before)
    memory = table.concat(live)
  end
  return standing, own_from, own_to, opens, has, memory, until_at
end

local function keep(key, memory, until_at, now)
  latest[key] = memory
  if memory == '' then
    redis.call('DEL', key)
  else
    redis.call('SET', key, memory, 'PX', math.min(math.ceil((until_at - now + GRACE) / 1000), LIFE_MAX))
  end
end

local function decide(i, ask)
  local key = KEYS[i + 1]
  local memory = latest[key] or memories[i] or ''
  local now = asked_at
  -- Never back: the newest entry's time is at most the recipient's now.
  if #memory > 0 then now = math.max(now, (read('<d', memory, 2))) end
  local takes = ask.takes
  local standing, own_from, own_to, opens, has, live, until_at =
    remember(memory, now, ask.job, ask.token, ask.touch, takes)
  local own = standing and standing.token == ask.token
  if standing and not own and standing.attempt ~= ask.supersedes then
    return write('<BHd', 1, standing.attempt, standing.deadline)
  end
  if not standing and ask.seen >= 0 and (ask.seen < changed_at or ask.seen + CLAIM_LIFE < now) then
    return write('<BHd', 2, 0, 0)
  end
  local refusal
  local scope = optouts[i] and suppressing(optouts[i], ask)
  local from_all = everybody and redis.call('HGET', everybody, ask.address)
  scope = from_all and suppressing(from_all, ask) or scope
  if scope then
    refusal = write('<BHd', 3, scope, 0)
  elseif cancelled(ask.tenant, ask.targets_at, ask.targets, ask.accepted_at, now) then
    refusal = write('<BHd', 4, 0, 0)
  end
  if refusal then
    if own then
      -- The same asking claimed before the refusal came. It got no answer, so nothing went out for it.
      keep(key, sub(memory, 1, own_from - 1) .. sub(memory, own_to), until_at, now)
    end
    return refusal
  end
  if own then return CLAIMED end
  local full, dropped
  local kept = takes.rules
  for t = 1, #takes do
    if not has[t] then
      local opens_at = takes[t].limit == 0 and math.huge or opens[t]
      if opens_at then
        if not full or opens_at > opens[full] then full = t; opens[t] = opens_at end
        if takes[t].drop and not dropped then dropped = t end
      end
    end
  end
  if full then return write('<BHd', 5, (dropped or full) - 1, opens[full]) end
  if next(has) then
    local places = {}
    for t = 1, #takes do if not has[t] then places[#places + 1] = takes[t].kept end end
    kept = table.concat(places)
  end
  local entry = write('<Bddc8c8c8H', #kept / 8, now, ask.deadline, ask.job, ask.token, ask.touch, ask.attempt) .. kept
  until_at = math.max(until_at, ask.deadline + CLAIM_LIFE, now + life_max(kept))
  keep(key, entry .. live, until_at, now)
  return CLAIMED
end

local answers = {}
local p = 1
for i = 1, n do
  local ask = {}
  local rules
  ask.job, ask.token, ask.touch, ask.attempt, ask.supersedes, ask.deadline, ask.seen, ask.tenant, rules, p =
    read('<c8c8c8HHddHB', asks, p)
  ask.takes = takes_at(p, rules)
  p = p + 21 * rules
  ask.touting, ask.kind, ask.address, ask.sender, ask.signature, ask.topic, ask.targets, p =
    read('<BBc16c17c17c17B', asks, p)
  ask.targets_at = p
  p = p + 17 * ask.targets
  ask.accepted_at, p = read('<d', asks, p)
  answers[i] = decide(i, ask)
end
return table.concat(answers)
