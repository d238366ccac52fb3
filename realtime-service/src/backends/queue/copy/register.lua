-- Registers a queue, and looks for queues that no gateway holds.
--
-- KEYS  1 a sorted set: the ids of the queues, each with the time in ms after which it may be without a gateway
-- ARGV  1 the id of the queue   2 its lease in ms   3 maximum number of ids to return
-- Returns the ids of queues whose time has passed.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Removes nothing. After a first write that takes no memory, a full Redis carries out all others.
redis.call('ZREM', KEYS[1], '')

redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2]), ARGV[1])
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. string.format('%.0f', now), 'LIMIT', 0, ARGV[3])
