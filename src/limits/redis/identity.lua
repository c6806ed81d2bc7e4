-- Says which memory this is, and since when it is whole. Asked by every new connection before anything else.
--
-- The memory is the same while the same server process runs, and after a restart that read it back from an append-only
-- file that was synced before each answer. It has changed when the server came back empty, from a snapshot or from a
-- file that lags (both may lack the last answered writes), or when a replica took over (which may lack them too).
--
-- A memory whose recipients were written in another form cannot be read, so it counts as lost too.
--
-- KEYS[1]   the identity, a hash of id, changed_at, run_id, replid, aof, form, recovering (1, or not there)
-- ARGV[1]   the server's run_id
-- ARGV[2]   its master_replid
-- ARGV[3]   its master_replid2: the one it had as a replica, or zeros
-- ARGV[4]   whether it syncs an append-only file before each answer, 1 or 0
-- ARGV[5]   now, in microseconds since the epoch
-- ARGV[6]   an id for this memory, should it be a new one
--
-- A new memory is recovering until recovered.lua says otherwise.
--
-- Returns {id, changed_at}.
assert(#KEYS == 1 and #ARGV == 6, "1 key, 6 arguments")

-- The form of memory.lua.
local FORM = '2'
local known = redis.call('HMGET', KEYS[1], 'id', 'changed_at', 'run_id', 'replid', 'aof', 'form')
local id, changed_at, run_id, replid, aof = known[1], known[2], known[3], known[4], known[5]
if id and run_id ~= ARGV[1] then
  local took_over = ARGV[3] == replid
  if aof ~= '1' or ARGV[4] ~= '1' or took_over then id = nil end
end
if known[6] ~= FORM then id = nil end
if not id then
  id, changed_at = ARGV[6], ARGV[5]
  redis.call('HSET', KEYS[1], 'recovering', '1')
end
redis.call('HSET', KEYS[1], 'id', id, 'changed_at', changed_at, 'run_id', ARGV[1], 'replid', ARGV[2], 'aof', ARGV[4], 'form', FORM)
return {id, changed_at}
