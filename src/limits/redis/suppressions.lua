-- Reads the opt-outs of an address.
--
-- KEYS[1]   the tenant's, as in suppress.lua
-- KEYS[2]   those from every tenant
-- ARGV[1]   the address, 16 bytes
--
-- Returns a string of opt-outs, as suppress.lua keeps them.
assert(#KEYS == 2 and #ARGV == 1, "2 keys, 1 argument")

return (redis.call('GET', KEYS[1]) or '') .. (redis.call('HGET', KEYS[2], ARGV[1]) or '')
