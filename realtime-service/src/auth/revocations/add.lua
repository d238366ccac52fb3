-- Adds a revocation to the stream, and publishes it.
--
-- KEYS  1 the stream
-- ARGV  1 the channel   2 the gateway that adds it and its ticket   3 the revocation
--       4 maximum number of revocations   5 the age in ms at which they are forgotten
--       6 the command that publishes
-- Returns the number of gateways that hear of it.
local time = redis.call('TIME')
local oldest = string.format('%.0f', time[1] * 1000 - ARGV[5])
redis.call('XTRIM', KEYS[1], 'MINID', '~', oldest)
local id = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[4], '*', 'record', ARGV[3])
return redis.call(ARGV[6], ARGV[1], id .. ' ' .. ARGV[2] .. ' ' .. ARGV[3])
