-- Claims jobs with all the caps they need, or nothing of each; reads the opt-outs and rules that stand against them. A
-- repeated call with the same tokens takes nothing twice. Or only says what it would decide, and writes nothing.
--
-- KEYS[1]              identity of this memory, a hash
-- KEYS[2 .. n+1]       memory of each claim's recipient
-- KEYS[n+2 .. 2n+1]    opt-outs of each claim's address
-- KEYS[2n+2 .. ]       of each of the t tenants that the claims belong to: its point rules that cancel, those that move,
--                      and its rules by filter (hashes, rule.lua)
-- KEYS[2n+3t+2]        opt-outs from every tenant, a hash by address
-- KEYS[2n+3t+3 .. ]    memory of other logs that takes are in, senders'; and what is newest under collapse keys
--                      (collapse.lua)
-- ARGV[1]              the identity's id, as the caller knows it
-- ARGV[2]              now, in microseconds since the epoch
-- ARGV[3]              since when this memory is whole, the same
-- ARGV[4]              n
-- ARGV[5]              t
-- ARGV[6]              1 to claim, 0 to say what would be decided, 2 to take the places of touches that were lost, each as
--                      of its deadline, whether there is room or not, unless its job is known
-- ARGV[7]              the claims, packed one after the other, little-endian:
--                      job 8 bytes, token 8 bytes, touch 8 bytes, attempt u16, supersedes u16, deadline f64,
--                      seen f64 (below 0: none), tenant u16 (index, from 0),
--                      expires_at f64, takes u8, then takes x (rule 4 bytes, log u16 (index of its key; 0: the
--                      recipient's own), limit u16, need u8, span u8 (0 rolling, 1 fixed, 2 from first, 3 bucket),
--                      its numbers 2 x f64 in us (length; or start, end; or length; or refill), flags u8 (1 drops,
--                      2 shadow)),
--                      touting u8 (whether opt-outs bind the class that are not from everything), kind u8,
--                      address 16 bytes, sender, signature and topic 17 bytes each (scope number, word;
--                      scope 255: none),
--                      names u8, then names x 17 bytes: point rules of these names would bind it,
--                      id of the first job of its chain, mostly its own, 16 bytes, class u8, accepted_at f64, moved_at f64 (below 0: never),
--                      newest u16 (index of its collapse key's; 0: none)
--
-- Returns a string of n x (verdict u8, argument u16, time f64, time f64):
--   0 claimed, 1 held (attempt, deadline), 2 forgotten, 3 suppressed (scope number), 4 cancelled (1: collapsed),
--   5 over a cap (index of the rule from 0, when all have room, when the job's turn comes),
--   6 claimed, without room in shadows (their indexes as bits in the first time),
--   7 moved (when the rule was given), 8 recovering (1 when claimed all the same);
-- and then, for each that was moved, due_at and expires_at, i64 each.
-- Fails with IDENTITY when this is another memory than the caller knows.
assert(#KEYS >= 4 and #ARGV == 7, "4 keys or more, 7 arguments")

local identity = redis.call('HMGET', KEYS[1], 'id', 'recovering')
if identity[1] ~= ARGV[1] then
  return redis.error_reply('IDENTITY this memory has changed')
end
local recovering, restoring = identity[2] == '1', ARGV[6] == '2'

local asked_at, changed_at, n, tenants = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local takes_it, asks = ARGV[6] ~= '0', ARGV[7]
local globals = 2 * n + 3 * tenants + 2
-- As limits::take::TOLD_PER_PLACE and TOLD_MAX.
local TOLD_PER_PLACE, TOLD_MAX = 2, 32
local CLAIMED = recovering and write('<BHdd', 8, 1, 0, 0) or write('<BHdd', 0, 0, 0, 0)

local memories = redis.call('MGET', unpack(KEYS, 2, n + 1))
local optouts = redis.call('MGET', unpack(KEYS, n + 2, 2 * n + 1))
local everybody = redis.call('EXISTS', KEYS[globals]) == 1 and KEYS[globals]
local latest = {}
local cancelling, moving, filtering = {}, {}, {}
for i = 0, tenants - 1 do
  local at = 2 * n + 2 + 3 * i
  cancelling[i] = redis.call('EXISTS', KEYS[at]) == 1 and KEYS[at]
  moving[i] = redis.call('EXISTS', KEYS[at + 1]) == 1 and KEYS[at + 1]
  filtering[i] = redis.call('EXISTS', KEYS[at + 2]) == 1 and KEYS[at + 2]
end

-- Returns a tenant's rules by filter; their names are: act u8 (0 cancels, 1 moves), kind and class u8 (255: any), from
-- and before which time accepted f64, names u8, names x 17 bytes.
local known_filters = {}
local function filters_of(tenant)
  local filters = known_filters[tenant]
  if not filters then
    filters = {}
    local stored = redis.call('HGETALL', filtering[tenant])
    for i = 1, #stored, 2 do
      local filter = { names = {} }
      local names, p
      filter.act, filter.kind, filter.class, filter.from, filter.to, names, p = read('<BBBddB', stored[i])
      for name = 1, names do filter.names[name] = sub(stored[i], p + 17 * (name - 1), p + 17 * name - 1) end
      filter.at, filter.keep_until = read('<dd', stored[i + 1])
      filter.does = sub(stored[i + 1], 17)
      filters[#filters + 1] = filter
    end
    known_filters[tenant] = filters
  end
  return filters
end

-- Returns the takes that a claim packs at p, by log, the recipient's own first; claims of a batch mostly pack the same.
local known_takes = {}
local function takes_at(p, count)
  local packed = sub(asks, p, p + 27 * count - 1)
  local logs = known_takes[packed]
  if not logs then
    logs = { count = count, { key = 0 } }
    known_takes[packed] = logs
    local by_key = { [0] = logs[1] }
    for t = 1, count do
      local rule, key, limit, need, span, a, b, flags = read('<c4HHBBddB', packed, 27 * t - 26)
      local log = by_key[key]
      if not log then
        log = { key = key }
        by_key[key], logs[#logs + 1] = log, log
      end
      log[#log + 1] = { index = t - 1, rule = rule, limit = limit, need = need, span = span, a = a, b = b,
                        drops = flags % 2 == 1, shadow = flags >= 2 }
    end
    -- What a log keeps of a touch that takes all places there, where that is the same at every time.
    for _, log in ipairs(logs) do
      local kept, all = {}, true
      for _, take in ipairs(log) do
        all = all and take.span == ROLLING and take.need <= take.limit
        kept[#kept + 1] = write('<c4BI7', take.rule, take.need, take.a)
      end
      if all then log.kept = concat(kept) end
    end
  end
  return logs
end

-- Returns the widest opt-out in a string of (scope u8, word 16 bytes, kind u8, source u8, at f64) that binds the job.
local function suppressing(optouts, ask)
  local widest
  local sender, signature, topic = read('<c17c17c17', asks, ask.address_at + 16)
  for p = 1, #optouts, 27 do
    local scope, kind = byte(optouts, p), byte(optouts, p + 17)
    local named = sub(optouts, p, p + 16)
    local reaches = scope == 4 or ask.touting == 1 and
      (scope == 3 or scope == 5 or named == sender or named == signature or named == topic)
    if reaches and (kind == 255 or kind == ask.kind) and (not widest or scope > widest) then widest = scope end
  end
  return widest
end

-- Calls each(at, does) with the rules of a hash that bind the claim by one of its names.
local function points(key, ask, now, each)
  for _, rule in ipairs(redis.call('HMGET', key, unpack(ask.names))) do
    if rule then
      local at, keep_until = read('<dd', rule)
      if keep_until > now and ask.accepted_at <= at then each(at, sub(rule, 17)) end
    end
  end
end

-- Calls each(act, at, does) with the rules by filter that bind the claim.
local function filters(ask, now, each)
  local named = {}
  for _, name in ipairs(ask.names) do named[name] = true end
  for _, filter in ipairs(filters_of(ask.tenant)) do
    local binds = filter.keep_until > now and ask.accepted_at <= filter.at
      and ask.accepted_at >= filter.from and ask.accepted_at < filter.to
      and (filter.kind == 255 or filter.kind == ask.kind) and (filter.class == 255 or filter.class == ask.class)
    for _, name in ipairs(filter.names) do binds = binds and named[name] end
    if binds then each(filter.act, filter.at, filter.does) end
  end
end

-- Returns what the rules make of a claim, if any binds it: cancelled, else collapsed, else moved by the latest rule that
-- it does not obey yet.
local details = {}
local function ruled(i, ask, now)
  if cancelling[ask.tenant] or moving[ask.tenant] or filtering[ask.tenant] then
    ask.names = {}
    for name = 1, ask.count do ask.names[name] = sub(asks, ask.names_at + 17 * (name - 1), ask.names_at + 17 * name - 1) end
  end
  local cancelled, moved_at, does = false, ask.moved_at, nil
  local function cancel() cancelled = true end
  local function move(at, what)
    if at > moved_at then moved_at, does = at, what end
  end
  if cancelling[ask.tenant] then points(cancelling[ask.tenant], ask, now, cancel) end
  if moving[ask.tenant] then points(moving[ask.tenant], ask, now, move) end
  if filtering[ask.tenant] then
    filters(ask, now, function(act, at, what) if act == 0 then cancel() else move(at, what) end end)
  end
  if cancelled then return write('<BHdd', 4, 0, 0, 0) end
  local note = ask.newest > 0 and redis.call('GET', KEYS[ask.newest])
  if note then
    local at, keep_until, job = read('<ddc16', note)
    if keep_until > now and ask.accepted_at <= at and sub(asks, ask.id_at, ask.id_at + 15) ~= job then
      return write('<BHdd', 4, 1, 0, 0)
    end
  end
  if does then
    details[i] = does
    return write('<BHdd', 7, 0, moved_at, 0)
  end
end

-- What is seen in a log without entries.
local UNTOUCHED = { opens = {}, has = {}, last = {}, stale = false, until_at = 0, free = true }

-- Reads a log for some takes. Returns the claim that stands for the job there, for each take whether the touch is in it,
-- when it opens if it is full, and the last end in its window; whether there is something to prune, and until when
-- something has a meaning.
local function look(memory, sets, p, now, ask, takes)
  if p > #memory then return UNTOUCHED end
  local standing
  local used, opens, has, last = {}, {}, {}, {}
  local stale, until_at, free = false, 0, true
  while p <= #memory do
    local form, set, at, touch, next, deadline, attempt, token, job = entry_at(memory, p)
    local claims = deadline + CLAIM_LIFE > now
    if claims and job == ask.job and (not standing or attempt > standing.attempt) then
      standing = { attempt = attempt, deadline = deadline, token = token }
    end
    local places = sets[set]
    local ends = places and max(at + places.life, places.ends) or 0
    if claims then
      until_at = max(until_at, ends, deadline + CLAIM_LIFE)
    else
      stale = stale or ends <= now or form == 1 or form == 2
      until_at = max(until_at, ends)
    end
    if ends > now then
      for t = 1, #takes do
        local take = takes[t]
        local place = places.of[take.rule]
        local counted = place and counted_until(take, place, at, now)
        if counted then
          free = false
          if touch == ask.touch then
            has[t] = true
          else
            local sum = (used[t] or 0) + place.weight
            used[t] = sum
            last[t] = max(last[t] or counted, counted)
            -- Newest first: once this one is gone, there is room among what is left.
            if not opens[t] and sum + take.need > take.limit then opens[t] = counted end
          end
        end
      end
    end
    p = next
  end
  return { standing = standing, opens = opens, has = has, last = last, stale = stale, until_at = until_at, free = free }
end

-- Returns when a take has room, if it has none now; else how long its place is kept.
local function room(take, opens, last, now)
  if take.need > take.limit then return math.huge end
  if take.span == FIXED then
    if now >= take.b then return now end
    return opens, take.b - take.a
  elseif take.span == BUCKET then
    local full_at = max(last or now, now) + take.need * take.a
    local open_at = full_at - take.limit * take.a
    return open_at > now and open_at or nil, full_at
  elseif take.span == FROM_FIRST then
    return opens, last or now + take.a
  end
  return opens, take.a
end

-- Returns the first of the instants at which places open, and after how long they open again.
local function openings(take, log, open_at, now)
  if take.span == BUCKET then return { open_at }, take.need * take.a end
  local first = {}
  if take.span == ROLLING then
    local p = log.entries_at
    while p <= #log.memory do
      local _, set, at, _, next = entry_at(log.memory, p)
      local place = log.sets[set] and log.sets[set].of[take.rule]
      local counted = place and counted_until(take, place, at, now)
      if counted and counted >= open_at then table.insert(first, 1, counted) end
      p = next
    end
    return first, take.a
  end
  for i = 1, max(floor(take.limit / take.need), 1) do first[i] = open_at end
  return first, take.span == FIXED and take.b - take.a or take.a
end

-- Says when the turn of a job comes that has to wait for a take: at the first opening that not enough others were told to
-- come at, or the last one before the job expires. Returns that, and what was told by then; nothing more if it told none.
local function turn(take, log, open_at, expires_at, now)
  local told = {}
  for p = 1, #log.told, 9 do
    local at, jobs = read('<I7H', log.told, p)
    if at > now then told[#told + 1] = { at = at, jobs = jobs } end
  end
  local first, period = openings(take, log, open_at, now)
  local next, ahead, places, last = 1, 0, 0, open_at
  for round = 0, math.huge do
    for i = 1, #first do
      local open = first[i] + round * period
      places = places + 1
      if open >= expires_at then return last end
      while told[next] and told[next].at <= open do
        ahead, next = ahead + told[next].jobs, next + 1
      end
      local crowded = #told >= TOLD_MAX and open > told[#told].at
      if crowded or ahead < TOLD_PER_PLACE * places then
        if crowded then open = told[#told].at end
        local before = #told
        while before > 0 and told[before].at > open do before = before - 1 end
        if before > 0 and told[before].at == open then
          told[before].jobs = min(told[before].jobs + 1, 65535)
        else
          table.insert(told, before + 1, { at = open, jobs = 1 })
        end
        -- Before the others there is always room; what is farthest away is forgotten for it.
        for t = #told, TOLD_MAX + 1, -1 do told[t] = nil end
        for t = 1, #told do told[t] = write('<I7H', told[t].at, told[t].jobs) end
        return open, concat(told)
      end
      last = open
    end
  end
end

local function keep(key, memory, until_at, now)
  if not takes_it then return end
  latest[key] = memory
  redis.call('SET', key, memory, 'PX', life_of(until_at, now))
end

-- Takes the entry of this asking out of a memory again.
local function undo(log, ask, now)
  if not takes_it then return end
  local sets, entries, until_at = prune(log.memory, now, ask.job, ask.token)
  if entries == '' then
    latest[log.key] = ''
    redis.call('DEL', log.key)
  else
    keep(log.key, memory_of(sets, '', entries), until_at, now)
  end
end

-- Sets as a memory packs them, by the places they hold.
local known_packed = {}

-- Writes the places that are free in a log; in the recipient's own log this is the claim too.
local function take_places(log, kept, ask, now)
  if kept == '' and not log.own then return end
  local sets, entries, until_at = log.sets.packed, sub(log.memory, log.entries_at), log.look.until_at
  if log.look.stale then sets, entries, until_at = prune(log.memory, now) end
  local set = 0
  if kept ~= '' then
    local packed = known_packed[kept]
    if not packed then
      packed = string.char(#kept / 12) .. kept
      known_packed[kept] = packed
    end
    if sets == '' then
      set, sets = 1, packed
    else
      local known = sets_of(sets)
      set = #known + 1
      for s = 1, #known do
        if known[s].packed == packed then set = s end
      end
      if set > #known then sets = sets .. packed end
    end
    until_at = max(until_at, places_end(sets_of(sets), set, now))
  end
  local entry
  if not log.own then
    entry = write('<HI7c8c8c8', 4 * set + 3, now, ask.touch, ask.token, ask.job)
  else
    until_at = max(until_at, ask.deadline + CLAIM_LIFE)
    local form = ask.job == ask.touch and 1 or 2
    entry = write('<HI7c8I7Hc8', 4 * set + form, now, ask.touch, ask.deadline, ask.attempt, ask.token)
    if form == 2 then entry = entry .. ask.job end
  end
  local p = 1
  while restoring and p <= #entries do
    -- What came after it stays before it.
    local _, _, at, _, next, deadline = entry_at(entries, p)
    if at <= now then break end
    until_at = max(until_at, deadline + CLAIM_LIFE)
    p = next
  end
  keep(log.key, memory_of(sets, log.told, sub(entries, 1, p - 1) .. entry .. sub(entries, p)), until_at, now)
end

-- Looks whether all caps have room. Returns the answer where they have not; else how to keep the places of each log, and
-- the shadows without room as bits.
local function weigh(logs, ask, now)
  local full, full_log, dropped, opens_at
  local places, shadows = {}, 0
  for l, takes in ipairs(ask.logs) do
    local look, kept = logs[l].look, {}
    if look.free and takes.kept then kept[1] = takes.kept end
    for t = kept[1] and #takes + 1 or 1, #takes do
      local take = takes[t]
      if not look.has[t] then
        local open_at, til = room(take, look.opens[t], look.last[t], now)
        if not open_at then
          kept[#kept + 1] = write('<c4BI7', take.rule, take.need, til)
        elseif take.shadow then
          shadows = shadows + 2 ^ take.index
        else
          if not full or open_at > opens_at or open_at == opens_at and take.index < full.index then
            full, opens_at, full_log = take, open_at, logs[l]
          end
          if take.drops and (not dropped or take.index < dropped.index) then dropped = take end
        end
      end
    end
    places[l] = concat(kept)
  end
  if not full then return nil, places, shadows end
  local turn_at = opens_at
  if not dropped and opens_at < ask.expires_at then
    local told
    turn_at, told = turn(full, full_log, opens_at, ask.expires_at, now)
    if told then
      local log = full_log
      local sets, entries = log.sets.packed, sub(log.memory, log.entries_at)
      keep(log.key, memory_of(sets, told, entries), max(log.look.until_at, turn_at), now)
    end
  end
  return write('<BHdd', 5, (dropped or full).index, opens_at, turn_at)
end

-- Reads the logs that a claim is about, its recipient's own first; returns them and the time, which never goes back: the
-- newest entry's is at most that of its log.
local function read_logs(i, ask)
  local logs, now = {}, restoring and ask.deadline or asked_at
  for l, takes in ipairs(ask.logs) do
    local key = takes.key == 0 and KEYS[i + 1] or KEYS[takes.key]
    local memory = latest[key] or (takes.key == 0 and memories[i] or takes.key > 0 and redis.call('GET', key)) or ''
    local sets, told, entries_at = parts_of(memory)
    if entries_at < #memory and not restoring then now = max(now, (read('<I7', memory, entries_at + 2))) end
    logs[l] = { key = key, own = takes.key == 0, memory = memory, sets = sets, told = told, entries_at = entries_at }
  end
  for l, takes in ipairs(ask.logs) do
    local log = logs[l]
    log.look = look(log.memory, log.sets, log.entries_at, now, ask, takes)
  end
  return logs, now
end

local function decide(i, ask)
  local logs, now = read_logs(i, ask)
  local standing = logs[1].look.standing
  local own = standing and standing.token == ask.token
  if standing and not own and standing.attempt ~= ask.supersedes then
    return write('<BHdd', 1, standing.attempt, standing.deadline, 0)
  end
  if not standing and ask.seen >= 0 and (ask.seen < changed_at or ask.seen + CLAIM_LIFE < now) then
    return write('<BHdd', 2, 0, 0, 0)
  end
  if recovering and ask.touting == 1 then return write('<BHdd', 8, 0, 0, 0) end
  local refusal
  local scope = optouts[i] and suppressing(optouts[i], ask)
  local from_all = everybody and redis.call('HGET', everybody, sub(asks, ask.address_at, ask.address_at + 15))
  scope = from_all and suppressing(from_all, ask) or scope
  if scope then
    refusal = write('<BHdd', 3, scope, 0, 0)
  else
    refusal = ruled(i, ask, now)
  end
  if refusal then
    if own then
      -- The same asking claimed before the refusal came. It got no answer, so nothing went out for it.
      for l = 1, #logs do undo(logs[l], ask, now) end
    end
    return refusal
  end
  if own then return CLAIMED end
  local over, places, shadows = weigh(logs, ask, now)
  if over then return over end
  for l = 1, #logs do take_places(logs[l], places[l], ask, now) end
  return (recovering or shadows == 0) and CLAIMED or write('<BHdd', 6, 0, shadows, 0)
end

-- Takes the places of a touch that was lost as of its time, whether there is room or not, unless its job is known.
local function restore(i, ask)
  local logs, now = read_logs(i, ask)
  if logs[1].look.standing then return end
  for l, takes in ipairs(ask.logs) do
    local look, kept = logs[l].look, {}
    for t, take in ipairs(takes) do
      local _, til = room(take, nil, look.last[t], now)
      if til and not look.has[t] then kept[#kept + 1] = write('<c4BI7', take.rule, take.need, til) end
    end
    take_places(logs[l], concat(kept), ask, now)
  end
end

local answers = {}
local p = 1
for i = 1, n do
  local job, token, touch, attempt, supersedes, deadline, seen, tenant, expires_at, takes, q =
    read('<c8c8c8HHddHdB', asks, p)
  local against = q + 27 * takes
  local touting, kind, count = byte(asks, against), byte(asks, against + 1), byte(asks, against + 69)
  local id_at = against + 70 + 17 * count
  local class, accepted_at, moved_at, newest, next = read('<BddH', asks, id_at + 16)
  p = next
  -- In one constructor: a table that grows field by field is copied five times.
  local ask = {
    job = job, token = token, touch = touch, attempt = attempt, supersedes = supersedes, deadline = deadline, seen = seen,
    tenant = tenant, expires_at = expires_at, logs = takes_at(q, takes), touting = touting, kind = kind,
    address_at = against + 2, count = count, names_at = against + 70, id_at = id_at, class = class,
    accepted_at = accepted_at, moved_at = moved_at, newest = newest, names = false,
  }
  if restoring then
    restore(i, ask)
    answers[i] = CLAIMED
  else
    answers[i] = decide(i, ask)
  end
end
for i = 1, n do answers[#answers + 1] = details[i] end
return concat(answers)
