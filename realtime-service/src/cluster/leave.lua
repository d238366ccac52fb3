-- Ends the lease of a gateway that ends. Its shares are removed after a while: its clients reconnect to
-- other gateways meanwhile.
--
-- KEYS  1 a sorted set: the registered gateways, each with the time in ms at which its lease ends
--       2 another: the gateways that have ended, each with the time in ms after which its shares go
-- ARGV  1 the id of the gateway   2 the while in ms
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if redis.call('ZREM', KEYS[1], ARGV[1]) == 1 then
  redis.call('ZADD', KEYS[2], string.format('%.0f', now + ARGV[2]), ARGV[1])
end
