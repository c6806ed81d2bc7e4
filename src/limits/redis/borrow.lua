-- Answers who asks for a value that processes share, and names one of them to renew it.
--
-- KEYS[1]   the value, a hash: value, mark, renew_at and until as lend.lua has them; who renews it, and renewed_until
-- ARGV[1]   now, in microseconds since the epoch
-- ARGV[2]   who asks
-- ARGV[3]   the mark of the value that did not do; empty: any does
-- ARGV[4]   until when the asker may take to renew it, in microseconds since the epoch
--
-- Returns {0, mark, value, renew_at, until}, {1}: the asker renews it, or {2, renewed_until}: somebody does.
assert(#KEYS == 1 and #ARGV == 4, "1 key, 4 arguments")

local found = redis.call('HMGET', KEYS[1], 'mark', 'value', 'renew_at', 'until', 'who', 'renewed_until')
local mark, value, renew_at, till, who, renewed_until = unpack(found)
local now = tonumber(ARGV[1])
local good = value and now < tonumber(till) and mark ~= ARGV[3]
local renewing = who and who ~= ARGV[2] and now < tonumber(renewed_until)
if good and (renewing or now < tonumber(renew_at)) then return {0, mark, value, renew_at, till} end
if renewing then return {2, renewed_until} end
redis.call('HSET', KEYS[1], 'who', ARGV[2], 'renewed_until', ARGV[4])
-- A day, so that nothing stays of an account that is no more; a value makes it as long as it holds.
if not value then redis.call('EXPIRE', KEYS[1], 86400) end
return {1}
