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
--                      of its deadline, whether there is room or not, unless its attempt is known
-- ARGV[7]              the claims, packed one after the other, little-endian:
--                      job 8 bytes, token 8 bytes, touch 8 bytes, attempt u16, supersedes u16, deadline f64,
--                      seen f64 (below 0: none), tenant u16 (index, from 0),
--                      expires_at f64, takes u8, then takes x (rule 4 bytes, log u16 (index of its key; 0: the
--                      recipient's own), limit u16, need u8, span u8 (0 rolling, 1 fixed, 2 from first, 3 bucket),
--                      its numbers 2 x f64 in us (length; or start, end; or length; or refill), flags u8 (1 drops,
--                      2 shadow, 4 each attempt takes a place of its own)),
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
local cancelling, moving, filtering, rules_of = {}, {}, {}, {}
for i = 0, tenants - 1 do
  local at = 2 * n + 2 + 3 * i
  cancelling[i] = redis.call('EXISTS', KEYS[at]) == 1 and KEYS[at]
  moving[i] = redis.call('EXISTS', KEYS[at + 1]) == 1 and KEYS[at + 1]
  filtering[i] = redis.call('EXISTS', KEYS[at + 2]) == 1 and KEYS[at + 2]
  rules_of[i] = cancelling[i] or moving[i] or filtering[i]
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
    logs = { { key = 0 } }
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
                        drops = flags % 2 == 1, shadow = flags % 4 >= 2, each = flags >= 4, places = {} }
    end
    for _, log in ipairs(logs) do
      -- What a touch keeps that takes every place of a log, and until when that stays the same; and how much may be in the
      -- log at most so that all have room, whichever rules it counts for.
      local kept, same_until, room = {}, math.huge, math.huge
      for t, take in ipairs(log) do
        local life = take.a
        if take.span == FIXED then
          life, same_until = take.b - take.a, min(same_until, take.b)
        elseif take.span ~= ROLLING then
          same_until = 0
        end
        kept[t] = write('<c4BI7', take.rule, take.need, life)
        room = min(room, take.limit - take.need)
      end
      log.kept, log.same_until, log.room = concat(kept), same_until, room
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
  if not rules_of[ask.tenant] and ask.newest == 0 then return end
  ask.names = {}
  for name = 1, ask.count do ask.names[name] = sub(asks, ask.names_at + 17 * (name - 1), ask.names_at + 17 * name - 1) end
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

-- Returns the place that each set has for a take; false: none.
local function places_for(take, sets)
  local places = take.places[sets]
  if not places then
    places = {}
    take.places[sets] = places
    for set = 1, #sets do places[set] = sets[set].of[take.rule] or false end
  end
  return places
end

-- Reads a log for some takes, into it: the claim that stands for the job there, for each take whether the touch is in it,
-- when it opens if it is full, and the last end in its window, or that all are free; whether there is something to prune,
-- and until when something has a meaning. Where touches are restored, whether this one was.
local ats, numbers, touches = {}, {}, {}
local function look(log, takes, now, ask)
  local memory, sets, p, entries = log.memory, log.sets, log.entries_at, 0
  local standing, stale, until_at, most, restored = nil, false, 0, 0, false
  -- Mostly a job and its touch are new to a recipient, and then no entry needs to be read whole.
  local known = find(memory, ask.touch, p, true) or ask.job ~= ask.touch and find(memory, ask.job, p, true)
  while p <= #memory do
    local form, set, at, deadline, touch, attempt, token, job
    if known then
      form, set, at, touch, p, deadline, attempt, token, job = entry_at(memory, p)
      -- A claim that has no meaning any more is only known by its touch and time.
      if restoring and (job == ask.job and attempt == ask.attempt or touch == ask.touch and at == now) then
        restored = true
      end
    else
      form, set, at, p, deadline = glance_at(memory, p)
    end
    local kept, ends = sets[set], 0
    if kept then
      ends = at + kept.life
      if ends < kept.ends then ends = kept.ends end
    end
    if ends > now then
      entries, most = entries + 1, most + kept.weight
      ats[entries], numbers[entries], touches[entries] = at, set, touch
    end
    local claimed_until = deadline + CLAIM_LIFE
    if claimed_until > now then
      if job == ask.job and (not standing or attempt > standing.attempt) then
        standing = { attempt = attempt, deadline = deadline, token = token }
      end
      if claimed_until > until_at then until_at = claimed_until end
    else
      stale = stale or ends <= now or form == 1 or form == 2
    end
    if ends > until_at then until_at = ends end
  end
  log.standing, log.stale, log.until_at, log.restored = standing, stale, until_at, restored
  -- Mostly all that is in the log would fit under each take.
  log.free = not known and most <= takes.room and now < takes.same_until and not restoring
  if log.free then return end
  for t = 1, #takes do
    local take = takes[t]
    local places, room = places_for(take, sets), take.limit - take.need
    local used, opens, last, has = 0, false, false, false
    for e = 1, entries do
      local place = places[numbers[e]]
      local counted = place and counted_until(take, place, ats[e], now)
      if counted then
        if known and touches[e] == ask.touch and not take.each then
          has = true
        else
          used = used + place.weight
          if not last or counted > last then last = counted end
          -- Newest first: once this one is gone, there is room among what is left.
          if not opens and used > room then opens = counted end
        end
      end
    end
    log.opens[t], log.last[t], log.has[t] = opens, last, has
  end
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
    return open_at > now and open_at, full_at
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

-- Lives in ms, as Redis reads them, by their time in us: those of a batch are mostly the same.
local lives = {}

local function keep(key, memory, until_at, now)
  if not takes_it then return end
  latest[key] = memory
  local life = lives[until_at - now]
  if not life then
    life = string.format('%.0f', life_of(until_at, now))
    lives[until_at - now] = life
  end
  redis.call('SET', key, memory, 'PX', life)
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

-- Returns sets that have one for these places, and its number.
local function sets_with(sets, kept)
  local set = sets.by_kept[kept]
  if set then return sets, set end
  local packed = known_packed[kept]
  if not packed then
    packed = string.char(#kept / 12) .. kept
    known_packed[kept] = packed
  end
  for s = 1, #sets do
    if sets[s].packed == packed then set = s end
  end
  if not set then
    set, sets = #sets + 1, sets_of(sets.packed .. packed)
  end
  sets.by_kept[kept] = set
  return sets, set
end

-- Writes the places that are free in a log; in the recipient's own log this is the claim too.
local function take_places(log, kept, ask, now)
  if kept == '' and not log.own then return end
  local memory, sets, told, entries_at, until_at = log.memory, log.sets, log.told, log.entries_at, log.until_at
  -- What is restored stays known by its job and attempt until all is.
  if log.stale and not restoring then
    local packed, entries
    packed, entries, until_at = prune(memory, now)
    memory, sets, entries_at = entries, sets_of(packed), 1
  end
  local set = 0
  if kept ~= '' then
    sets, set = sets_with(sets, kept)
    until_at = max(until_at, places_end(sets, set, now))
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
  local p = entries_at
  while restoring and p <= #memory do
    -- What came after it stays before it.
    local _, _, at, next, deadline = glance_at(memory, p)
    if at <= now then break end
    until_at = max(until_at, deadline + CLAIM_LIFE)
    p = next
  end
  local head = entries_at > 1 and sets == log.sets and sub(memory, 1, entries_at - 1) or memory_of(sets.packed, told, '')
  keep(log.key, head .. sub(memory, entries_at, p - 1) .. entry .. sub(memory, p), until_at, now)
end

-- The logs of a claim, its recipient's own first, and the places to keep in each.
local logs, places = {}, {}

-- Looks whether all caps have room. Returns the answer where they have not; else the shadows without room as bits, and
-- leaves the places to keep.
local function weigh(ask, now)
  local full, full_log, dropped, opens_at
  local shadows = 0
  for l = 1, #ask.logs do
    local takes, log = ask.logs[l], logs[l]
    local kept = not log.free and {}
    for t = 1, log.free and 0 or #takes do
      local take = takes[t]
      if not log.has[t] then
        local open_at, til = room(take, log.opens[t], log.last[t], now)
        if not open_at then
          kept[#kept + 1] = write('<c4BI7', take.rule, take.need, til)
        elseif take.shadow then
          shadows = shadows + 2 ^ take.index
        else
          if not full or open_at > opens_at or open_at == opens_at and take.index < full.index then
            full, opens_at, full_log = take, open_at, log
          end
          if take.drops and (not dropped or take.index < dropped.index) then dropped = take end
        end
      end
    end
    places[l] = log.free and takes.kept or concat(kept)
  end
  if not full then return nil, shadows end
  local turn_at = opens_at
  if not dropped and opens_at < ask.expires_at then
    local told
    turn_at, told = turn(full, full_log, opens_at, ask.expires_at, now)
    if told then
      local log = full_log
      local sets, entries = log.sets.packed, sub(log.memory, log.entries_at)
      keep(log.key, memory_of(sets, told, entries), max(log.until_at, turn_at), now)
    end
  end
  return write('<BHdd', 5, (dropped or full).index, opens_at, turn_at)
end

-- Reads the logs that a claim is about into the tables of the claim before. Returns the time, which never goes back: the
-- newest entry's is at most that of its log.
local function read_logs(i, ask)
  local now = restoring and ask.deadline or asked_at
  for l = 1, #ask.logs do
    local takes, log = ask.logs[l], logs[l]
    if not log then
      log = { opens = {}, has = {}, last = {} }
      logs[l] = log
    end
    local own = takes.key == 0
    local key = own and KEYS[i + 1] or KEYS[takes.key]
    local memory = latest[key] or (own and memories[i] or not own and redis.call('GET', key)) or ''
    log.key, log.own, log.memory = key, own, memory
    log.sets, log.told, log.entries_at = parts_of(memory)
    if log.entries_at < #memory and not restoring then now = max(now, (read('<I7', memory, log.entries_at + 2))) end
  end
  for l = 1, #ask.logs do look(logs[l], ask.logs[l], now, ask) end
  return now
end

local function decide(i, ask)
  local now = read_logs(i, ask)
  local standing = logs[1].standing
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
      for l = 1, #ask.logs do undo(logs[l], ask, now) end
    end
    return refusal
  end
  if own then return CLAIMED end
  local over, shadows = weigh(ask, now)
  if over then return over end
  for l = 1, #ask.logs do take_places(logs[l], places[l], ask, now) end
  return (recovering or shadows == 0) and CLAIMED or write('<BHdd', 6, 0, shadows, 0)
end

-- Takes the places of a touch that was lost as of its time, whether there is room or not, unless its attempt is known.
local function restore(i, ask)
  local now = read_logs(i, ask)
  if logs[1].restored then return end
  for l, takes in ipairs(ask.logs) do
    local log, kept = logs[l], {}
    for t, take in ipairs(takes) do
      local _, til = room(take, false, log.last[t], now)
      if til and not log.has[t] then kept[#kept + 1] = write('<c4BI7', take.rule, take.need, til) end
    end
    take_places(log, concat(kept), ask, now)
  end
end

local answers = {}
-- One table for all claims: a new one costs more than its fields.
local ask = {}
local p = 1
for i = 1, n do
  local takes, takes_from
  ask.job, ask.token, ask.touch, ask.attempt, ask.supersedes, ask.deadline, ask.seen, ask.tenant, ask.expires_at, takes,
    takes_from = read('<c8c8c8HHddHdB', asks, p)
  ask.logs = takes_at(takes_from, takes)
  local against = takes_from + 27 * takes
  ask.touting, ask.kind = byte(asks, against, against + 1)
  ask.address_at, ask.count, ask.names_at = against + 2, byte(asks, against + 69), against + 70
  ask.id_at = against + 70 + 17 * ask.count
  ask.class, ask.accepted_at, ask.moved_at, ask.newest, p = read('<BddH', asks, ask.id_at + 16)
  if restoring then
    restore(i, ask)
    answers[i] = CLAIMED
  else
    answers[i] = decide(i, ask)
  end
end
for i = 1, n do answers[#answers + 1] = details[i] end
return concat(answers)
