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
-- ARGV[7]              the claims, packed one after the other, little-endian, 42 bytes each: what every claim is asked for.
--                      its form as an entry u8 (1 the touch is the job, 2 it is another; 4 more: it was seen; 8 more: it has
--                      a collapse key), what it shares u16 (index of the argument), touch 8 bytes, deadline u56,
--                      attempt u16, token 8 bytes, job 8 bytes (these as entries have them), supersedes u16, its rest u32
--                      (where it starts in ARGV[8])
-- ARGV[8]              the rests, one after the other: what few claims are asked for.
--                      expires_at f64, seen f64, moved_at f64 (below 0: never), accepted_at f64, newest u16 (index of its
--                      collapse key's; 0: none), address 16 bytes, id of the first job of its chain, mostly its own,
--                      16 bytes, logs u8, then logs x u16 (indexes of their keys), names u8, then names x 17 bytes: point
--                      rules of these names would bind it
-- ARGV[9 .. ]          what claims share:
--                      tenant u16 (index, from 0), touting u8 (whether opt-outs bind the class that are not from
--                      everything), kind u8, class u8, sender, signature and topic 17 bytes each (scope number, word;
--                      scope 255: none), takes u8, then takes x (rule 4 bytes, log u16 (0: the recipient's own; else
--                      which of those in its rest, from 1), limit u16, need u8, span u8 (0 rolling, 1 fixed, 2 from
--                      first, 3 bucket), its numbers 2 x f64 in us (length; or start, end; or length; or refill),
--                      flags u8 (1 drops, 2 shadow, 4 each attempt takes a place of its own)), then names x 17 bytes, as
--                      in a rest
--
-- Returns a string of n x (verdict u8, argument u16, time f64, time f64):
--   0 claimed, 1 held (attempt, deadline), 2 forgotten, 3 suppressed (scope number), 4 cancelled (1: collapsed),
--   5 over a cap (index of the rule from 0, when all have room, when the job's turn comes),
--   6 claimed, without room in shadows (their indexes as bits in the first time),
--   7 moved (when the rule was given), 8 recovering (1 when claimed all the same);
-- and then, for each that was moved, due_at and expires_at, i64 each.
-- Fails with IDENTITY when this is another memory than the caller knows.
assert(#KEYS >= 4 and #ARGV >= 9, "4 keys or more, 9 arguments or more")

local call = redis.call
local identity = call('HMGET', KEYS[1], 'id', 'recovering')
if identity[1] ~= ARGV[1] then
  return redis.error_reply('IDENTITY this memory has changed')
end
local recovering, restoring = identity[2] == '1', ARGV[6] == '2'

local asked_at, changed_at, n, tenants = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local takes_it, asks, rests = ARGV[6] ~= '0', ARGV[7], ARGV[8]
local globals = 2 * n + 3 * tenants + 2
-- As limits::take::TOLD_PER_PLACE and TOLD_MAX.
local TOLD_PER_PLACE, TOLD_MAX = 2, 32
-- Longest from a claim to the provider's answer, and less than the shortest time to a job's next call (domain::call).
local ANSWERED = 50e6
local CLAIMED = recovering and write('<BHdd', 8, 1, 0, 0) or write('<BHdd', 0, 0, 0, 0)

local memories = call('MGET', unpack(KEYS, 2, n + 1))
local optouts = call('MGET', unpack(KEYS, n + 2, 2 * n + 1))
local everybody = call('EXISTS', KEYS[globals]) == 1 and KEYS[globals]
local latest = {}
-- The claim that is decided: where it starts, what it has in front, and what it shares with others.
local CLAIM_BYTES = 42
local ask_at, form, seen, collapses, touch, deadline, ground
-- What else it has, read where it is asked for.
local attempt, token, job, supersedes
local cancelling, moving, filtering, rules_of = {}, {}, {}, {}
for i = 0, tenants - 1 do
  local at = 2 * n + 2 + 3 * i
  cancelling[i] = call('EXISTS', KEYS[at]) == 1 and KEYS[at]
  moving[i] = call('EXISTS', KEYS[at + 1]) == 1 and KEYS[at + 1]
  filtering[i] = call('EXISTS', KEYS[at + 2]) == 1 and KEYS[at + 2]
  rules_of[i] = cancelling[i] or moving[i] or filtering[i]
end

-- Returns a tenant's rules by filter; their names are: act u8 (0 cancels, 1 moves), kind and class u8 (255: any), from
-- and before which time accepted f64, names u8, names x 17 bytes.
local known_filters = {}
local function filters_of(tenant)
  local filters = known_filters[tenant]
  if not filters then
    filters = {}
    local stored = call('HGETALL', filtering[tenant])
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

-- Returns takes by log, the recipient's own first.
local function by_log(packed)
  local logs = { { which = 0 } }
  local by_which = { [0] = logs[1] }
  for t = 1, #packed / 27 do
    local rule, which, limit, need, span, a, b, flags = read('<c4HHBBddB', packed, 27 * t - 26)
    local log = by_which[which]
    if not log then
      log = { which = which }
      by_which[which], logs[#logs + 1] = log, log
    end
    log[#log + 1] = { index = t - 1, rule = rule, limit = limit, need = need, span = span, a = a, b = b,
                      drops = flags % 2 == 1, shadow = flags % 4 >= 2, each = flags >= 4 }
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
      take.kept = take.span <= FIXED and kept[t]
      room = min(room, take.limit - take.need)
    end
    log.kept, log.same_until, log.room = concat(kept), same_until, room
  end
  return logs
end

-- What claims share, by the argument that says it.
local grounds = {}
for argument = 9, #ARGV do
  local packed, its, takes, p = ARGV[argument], {}, nil, nil
  its.tenant, its.touting, its.kind, its.class, its.sender, its.signature, its.topic, takes, p =
    read('<HBBBc17c17c17B', packed)
  its.touting, its.ruled = its.touting == 1, rules_of[its.tenant]
  its.logs, its.names = by_log(sub(packed, p, p + 27 * takes - 1)), sub(packed, p + 27 * takes)
  grounds[argument] = its
end

-- Reads what few claims are asked for from their rest.
local function rest(format, from)
  return read(format, rests, read('<I4', asks, ask_at + 38) + from)
end

-- Returns the widest opt-out in a string of (scope u8, word 16 bytes, kind u8, source u8, at f64) that binds the job.
local function suppressing(optouts)
  local widest
  for p = 1, #optouts, 27 do
    local scope, kind = byte(optouts, p), byte(optouts, p + 17)
    local named = sub(optouts, p, p + 16)
    local reaches = scope == 4 or ground.touting and
      (scope == 3 or scope == 5 or named == ground.sender or named == ground.signature or named == ground.topic)
    if reaches and (kind == 255 or kind == ground.kind) and (not widest or scope > widest) then widest = scope end
  end
  return widest
end

-- Calls each(at, does) with the rules of a hash that bind a claim by one of its names.
local function points(key, names, accepted_at, now, each)
  for _, rule in ipairs(call('HMGET', key, unpack(names))) do
    if rule then
      local at, keep_until = read('<dd', rule)
      if keep_until > now and accepted_at <= at then each(at, sub(rule, 17)) end
    end
  end
end

-- Calls each(act, at, does) with the rules by filter that bind a claim.
local function filters(names, accepted_at, now, each)
  local named = {}
  for _, name in ipairs(names) do named[name] = true end
  for _, filter in ipairs(filters_of(ground.tenant)) do
    local binds = filter.keep_until > now and accepted_at <= filter.at
      and accepted_at >= filter.from and accepted_at < filter.to
      and (filter.kind == 255 or filter.kind == ground.kind) and (filter.class == 255 or filter.class == ground.class)
    for _, name in ipairs(filter.names) do binds = binds and named[name] end
    if binds then each(filter.act, filter.at, filter.does) end
  end
end

-- Returns the names of the claim: its own, then those that it shares.
local function names_of()
  local logs, p = rest('<B', 66)
  p = p + 2 * logs
  local names = {}
  local own = sub(rests, p + 1, p + 17 * byte(rests, p))
  for at = 1, #own, 17 do names[#names + 1] = sub(own, at, at + 16) end
  for at = 1, #ground.names, 17 do names[#names + 1] = sub(ground.names, at, at + 16) end
  return names
end

-- Returns what the rules make of a claim, if any binds it: cancelled, else collapsed, else moved by the latest rule that
-- it does not obey yet.
local details, detailed = {}, false
local function ruled(i, now)
  local moved_at, accepted_at, newest = rest('<ddH', 16)
  local tenant, names = ground.tenant, names_of()
  local cancelled, does = false, nil
  local function cancel() cancelled = true end
  local function move(at, what)
    if at > moved_at then moved_at, does = at, what end
  end
  if cancelling[tenant] then points(cancelling[tenant], names, accepted_at, now, cancel) end
  if moving[tenant] then points(moving[tenant], names, accepted_at, now, move) end
  if filtering[tenant] then
    filters(names, accepted_at, now, function(act, at, what) if act == 0 then cancel() else move(at, what) end end)
  end
  if cancelled then return write('<BHdd', 4, 0, 0, 0) end
  local note = newest > 0 and call('GET', KEYS[newest])
  if note then
    local at, keep_until, into = read('<ddc16', note)
    if keep_until > now and accepted_at <= at and rest('<c16', 50) ~= into then
      return write('<BHdd', 4, 1, 0, 0)
    end
  end
  if does then
    details[i], detailed = does, true
    return write('<BHdd', 7, 0, moved_at, 0)
  end
end

-- What stands before the entries of a memory, and its parts: mostly the same for all of a batch.
local NOTHING = sets_of('')
local head, head_sets, head_told = nil, nil, ''

-- Reads what stands before the entries of a log.
local function look_ahead(log, memory)
  if memory == '' then
    log.head, log.sets, log.told = '', NOTHING, ''
    return
  end
  if not head or sub(memory, 1, #head) ~= head then
    local from
    head_sets, head_told, from = parts_of(memory)
    head = sub(memory, 1, from - 1)
  end
  log.head, log.sets, log.told = head, head_sets, head_told
end

-- Reads the entries of a log that knows neither the job nor its touch, as far as a claim needs them: where something has a
-- meaning, its time and set; whether there is something to prune, and until when something has a meaning. Returns how much
-- there is, and the time, which is the newest entry's at least.
local function glance(log, memory, p, now)
  local sets, ats, held, size = log.sets.by_head, log.ats, log.held, #memory
  local entries, most, stale, until_at = 0, 0, false, 0
  while p <= size do
    local form, claims = byte(memory, p) % 4, false
    local number, at, _, ends
    if form == 1 or form == 2 then
      number, at, _, ends = read('<HI7dI7', memory, p)
      -- Newest first.
      if at > now then now = at end
      ends = ends + CLAIM_LIFE
      if ends > until_at then until_at = ends end
      if ends > now then claims = true else stale = true end
    else
      number, at = read('<HI7', memory, p)
      if at > now then now = at end
    end
    p = p + ENTRY_BYTES[form]
    local set = sets[number]
    ends = 0
    if set then
      ends = at + set.life
      if ends < set.ends then ends = set.ends end
    end
    if ends > now then
      entries, most = entries + 1, most + set.weight
      ats[entries], held[entries] = at, set
      if ends > until_at then until_at = ends end
    elseif not claims then
      stale = true
    end
  end
  log.entries, log.stale, log.until_at = entries, stale, until_at
  return most, now
end

-- Reads the entries of a log that knows the job or its touch, and also the claim that stands for the job there, and where
-- touches are restored, whether this one was.
local function look_whole(log, memory, now)
  local sets, ats, held, touches, p = log.sets, log.ats, log.held, log.touches, #log.head + 1
  local entries, standing, stale, until_at, restored, alone = 0, nil, false, 0, false, form == 1
  while p <= #memory do
    local form, set, at, its, next, its_deadline, its_attempt, its_token, its_job = entry_at(memory, p)
    -- A claim that has no meaning any more is only known by its touch and time: the provider's answer, that of what is
    -- restored, came soon after it, and before the job's next attempt. (The next step of a chain may come as soon.)
    local soon = at == now or alone and form == 0 and at < now and now - at <= ANSWERED
    if restoring and (its_job == job and its_attempt == attempt or its == touch and soon) then restored = true end
    local ends, claimed_until = places_end(sets, set, at), its_deadline + CLAIM_LIFE
    if ends > now then
      entries = entries + 1
      ats[entries], held[entries], touches[entries] = at, sets[set], its
    end
    if claimed_until > now then
      if its_job == job and (not standing or its_attempt > standing.attempt) then
        standing = { attempt = its_attempt, deadline = its_deadline, token = its_token }
      end
    else
      stale = stale or ends <= now or form == 1 or form == 2
    end
    until_at = max(until_at, claimed_until, ends)
    p = next
  end
  log.entries, log.standing, log.stale, log.until_at, log.restored = entries, standing, stale, until_at, restored
end

-- Counts what is in a log for a take: whether the touch is in it, when it opens if it is full, and the last end in its
-- window.
local function count(log, take, t, known, now)
  local ats, held, touches, rule = log.ats, log.held, log.touches, take.rule
  local room, opens, last, has = take.limit - take.need, false, false, false
  if take.span == ROLLING and not known then
    -- Newest first: what is older than the window has only older ones behind it.
    local since = now - take.a
    for e = 1, log.entries do
      if ats[e] <= since then break end
      local place = held[e].of[rule]
      if place then
        room = room - place.weight
        if room < 0 then
          opens = ats[e] + take.a
          break
        end
      end
    end
  else
    for e = 1, log.entries do
      local place = held[e].of[rule]
      local counted = place and counted_until(take, place, ats[e], now)
      if counted then
        if known and touches[e] == touch and not take.each then
          has = true
        else
          room = room - place.weight
          if not last or counted > last then last = counted end
          -- Newest first: once this one is gone, there is room among what is left.
          if not opens and room < 0 then opens = counted end
        end
      end
    end
  end
  log.opens[t], log.last[t], log.has[t] = opens, last, has
end

-- Reads a log for some takes, into it: what stands there, and of each take what it counts, or that all have room. Returns
-- the time, which never goes back: the newest entry's is at most that of its log.
local function look(log, takes, now)
  local memory, from = log.memory, #log.head + 1
  -- Mostly a job and its touch are new to a recipient, and then no entry needs to be read whole.
  local known = find(memory, touch, from, true)
    or form == 2 and find(memory, sub(asks, ask_at + 28, ask_at + 35), from, true)
  log.standing, log.free = nil, false
  if known or restoring then
    attempt, token, job, supersedes = read('<Hc8c8H', asks, ask_at + 18)
    if not restoring and from < #memory then now = max(now, (read('<I7', memory, from + 2))) end
    look_whole(log, memory, now)
  else
    local most
    most, now = glance(log, memory, from, now)
    -- Mostly all that is in the log would fit under each take.
    log.free = most <= takes.room and now < takes.same_until
  end
  if not log.free then
    for t = 1, #takes do count(log, takes[t], t, known, now) end
  end
  return now
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
    for e = log.entries, 1, -1 do
      local open = log.ats[e] + take.a
      if open > now and open >= open_at and log.held[e].of[take.rule] then first[#first + 1] = open end
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
  call('SET', key, memory, 'PX', life)
end

-- Takes the entry of this asking out of a memory again.
local function undo(log, now)
  if not takes_it then return end
  local sets, entries, until_at = prune(log.memory, now, job, token)
  if entries == '' then
    latest[log.key] = ''
    call('DEL', log.key)
  else
    keep(log.key, memory_of(sets, '', entries), until_at, now)
  end
end

-- Sets as a memory packs them, by the places they hold.
local known_packed = {}

-- Returns sets that have one for these places, which was not looked for among them yet, and its number.
local function sets_with(sets, kept)
  local packed, set = known_packed[kept], nil
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

-- How entries start that are made at the same time, by form and set.
local stamps, stamped_at = {}, nil
local function stamp(number, now)
  if now ~= stamped_at then stamps, stamped_at = {}, now end
  stamps[number] = write('<HI7', number, now)
  return stamps[number]
end

-- Writes the places that are free in a log; in the recipient's own log this is the claim too.
local function take_places(log, kept, now)
  if kept == '' and not log.own then return end
  local memory, sets, head, until_at = log.memory, log.sets, log.head, log.until_at
  local from = #head + 1
  -- What is restored stays known by its job and attempt until all is.
  if log.stale and not restoring then
    local packed, entries
    packed, entries, until_at = prune(memory, now)
    memory, sets, head, from = entries, sets_of(packed), '', 1
  end
  local set = 0
  if kept ~= '' then
    set = sets.by_kept[kept]
    if not set then
      local old = sets
      sets, set = sets_with(sets, kept)
      if sets ~= old then head = '' end
    end
    local places = sets[set]
    if now + places.life > until_at then until_at = now + places.life end
    if places.ends > until_at then until_at = places.ends end
  end
  -- The entry, in two parts.
  local number, tail = 4 * set + 3, nil
  if log.own then
    if deadline + CLAIM_LIFE > until_at then until_at = deadline + CLAIM_LIFE end
    number, tail = 4 * set + form, sub(asks, ask_at + 3, ask_at + (form == 1 and 27 or 35))
  else
    tail = touch .. sub(asks, ask_at + 20, ask_at + 35)
  end
  local start = now == stamped_at and stamps[number] or stamp(number, now)
  if head == '' then head = memory_of(sets.packed, log.told, '') end
  if restoring then
    -- What came after it stays before it.
    local p = from
    while p <= #memory do
      local _, _, at, next, its_deadline = glance_at(memory, p)
      if at <= now then break end
      until_at = max(until_at, its_deadline + CLAIM_LIFE)
      p = next
    end
    head, from = head .. sub(memory, from, p - 1), p
  end
  keep(log.key, head .. start .. tail .. sub(memory, from), until_at, now)
end

-- The logs of a claim, its recipient's own first, and the places to keep in each.
local logs, places = {}, {}

-- Looks whether all caps have room. Returns the answer where they have not; else the shadows without room as bits, and
-- leaves the places to keep.
local function weigh(now)
  local full, full_log, dropped, opens_at
  local shadows = 0
  for l = 1, #ground.logs do
    local takes, log = ground.logs[l], logs[l]
    places[l] = takes.kept
    local kept = not log.free and {}
    for t = 1, log.free and 0 or #takes do
      local take = takes[t]
      if not log.has[t] then
        local open_at, til = room(take, log.opens[t], log.last[t], now)
        if not open_at then
          kept[#kept + 1] = take.kept or write('<c4BI7', take.rule, take.need, til)
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
    if kept then places[l] = concat(kept) end
  end
  if not full then return nil, shadows end
  local turn_at = opens_at
  local expires_at = rest('<d', 0)
  if not dropped and opens_at < expires_at then
    local told
    turn_at, told = turn(full, full_log, opens_at, expires_at, now)
    if told then
      local log = full_log
      local sets, entries = log.sets.packed, sub(log.memory, #log.head + 1)
      keep(log.key, memory_of(sets, told, entries), max(log.until_at, turn_at), now)
    end
  end
  return write('<BHdd', 5, (dropped or full).index, opens_at, turn_at)
end

local function new_log(own)
  return { own = own, ats = {}, held = {}, touches = {}, opens = {}, has = {}, last = {} }
end
logs[1] = new_log(true)

-- Reads the logs that a claim is about into the tables of the claim before. Returns the time.
local function read_logs(i)
  local now, all, own = restoring and deadline or asked_at, ground.logs, logs[1]
  local key = KEYS[i + 1]
  local memory = latest[key] or memories[i] or ''
  own.key, own.memory = key, memory
  look_ahead(own, memory)
  for l = 2, #all do
    local log = logs[l] or new_log(false)
    logs[l], log.key = log, KEYS[(rest('<H', 65 + 2 * all[l].which))]
    log.memory = latest[log.key] or call('GET', log.key) or ''
    look_ahead(log, log.memory)
  end
  if #all > 1 and not restoring then
    for l = 1, #all do
      local log = logs[l]
      if #log.head < #log.memory then now = max(now, (read('<I7', log.memory, #log.head + 3))) end
    end
  end
  now = look(own, all[1], now)
  for l = 2, #all do look(logs[l], all[l], now) end
  return now
end

local function decide(i)
  local now, all, log = read_logs(i), ground.logs, logs[1]
  local standing = log.standing
  local own = standing and standing.token == token
  if standing and not own and standing.attempt ~= supersedes then
    return write('<BHdd', 1, standing.attempt, standing.deadline, 0)
  end
  if seen and not standing then
    local seen_at = rest('<d', 8)
    if seen_at < changed_at or seen_at + CLAIM_LIFE < now then return write('<BHdd', 2, 0, 0, 0) end
  end
  if recovering and ground.touting then return write('<BHdd', 8, 0, 0, 0) end
  local refusal
  local scope = optouts[i] and suppressing(optouts[i])
  local from_all = everybody and call('HGET', everybody, (rest('<c16', 34)))
  scope = from_all and suppressing(from_all) or scope
  if scope then
    refusal = write('<BHdd', 3, scope, 0, 0)
  elseif ground.ruled or collapses then
    refusal = ruled(i, now)
  end
  if refusal then
    if own then
      -- The same asking claimed before the refusal came. It got no answer, so nothing went out for it.
      for l = 1, #all do undo(logs[l], now) end
    end
    return refusal
  end
  if own then return CLAIMED end
  if log.free and #all == 1 then
    take_places(log, all[1].kept, now)
    return CLAIMED
  end
  local over, shadows = weigh(now)
  if over then return over end
  for l = 1, #all do take_places(logs[l], places[l], now) end
  return (recovering or shadows == 0) and CLAIMED or write('<BHdd', 6, 0, shadows, 0)
end

-- Takes the places of a touch that was lost as of its time, whether there is room or not, unless its attempt is known.
local function restore(i)
  local now = read_logs(i)
  if logs[1].restored then return end
  for l, takes in ipairs(ground.logs) do
    local log, kept = logs[l], {}
    for t, take in ipairs(takes) do
      local _, til = room(take, false, log.last[t], now)
      if til and not log.has[t] then kept[#kept + 1] = write('<c4BI7', take.rule, take.need, til) end
    end
    take_places(log, concat(kept), now)
  end
end

local answers = {}
for i = 1, n do
  local argument
  ask_at = CLAIM_BYTES * (i - 1) + 1
  form, argument, touch, deadline = read('<BHc8I7', asks, ask_at)
  seen, collapses = false, false
  if form > 2 then seen, collapses, form = form % 8 >= 4, form >= 8, form % 4 end
  ground = grounds[argument]
  if restoring then
    restore(i)
    answers[i] = CLAIMED
  else
    answers[i] = decide(i)
  end
end
for i = 1, detailed and n or 0 do answers[#answers + 1] = details[i] end
return concat(answers)
