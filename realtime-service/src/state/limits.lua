-- Writes the counts of a gateway, and reads those of the others.
--
-- KEYS  1 a sorted set: the registered gateways, each with the time in ms at which its lease ends
-- ARGV  1 the id of the gateway   2 the first part of the key of each gateway's counts   3 its counts
--       4 the time in ms after which these are forgotten
-- Returns the counts of the other gateways with a lease.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- A full Redis refuses a script whose first write takes memory.
redis.call('DEL', ARGV[2] .. ARGV[1])
redis.call('SET', ARGV[2] .. ARGV[1], ARGV[3], 'PX', ARGV[4])
local counts = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], string.format('%.0f', now), '+inf')) do
  local other = id ~= ARGV[1] and redis.call('GET', ARGV[2] .. id)
  if other then
    counts[#counts + 1] = other
  end
end
return counts
