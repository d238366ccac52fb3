-- Sends a request to the other gateways that have a lease.
--
-- KEYS  1 a sorted set: the registered gateways, each with the time in ms at which its lease ends
-- ARGV  1 the name of the gateway that asks   2 the first part of the name of each gateway's channel
--       3 the message   4 the name of the only gateway to ask, or an empty text
--       5 the command that publishes
-- Returns the names of the gateways that should answer, also of those that do not listen.
local own, channels, message, only = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local asked, names = {}, {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], string.format('%.0f', now), '+inf')) do
  local name = string.match(id, '^(.*)%.%d+$') or id
  if name ~= own and not asked[name] and (only == '' or only == name) then
    asked[name] = true
    names[#names + 1] = name
    redis.call(ARGV[5], channels .. name, message)
  end
end
return names
