-- Sends a request to the other gateways that have a lease, and to those that the gateway knows and that may
-- live: the lease of a living gateway is gone when Redis was restarted, or did not reach it for long.
--
-- KEYS  1 a sorted set: the registered gateways, each with the time in ms at which its lease ends
--       2 another: the gateways that have ended
-- ARGV  1 the name of the gateway that asks   2 the first part of the name of each gateway's channel
--       3 the message   4 the name of the only gateway to ask, or an empty text
--       5 the command that publishes   6… the names of the gateways that the asking one knows
-- Returns the names of the gateways that got the request, and of those that should have and do not listen.
local own, channels, message, only, publish = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function name_of(id)
  return string.match(id, '^(.*)%.%d+$') or id
end

local done, reached, unheard = {}, {}, {}
local function ask(name)
  if name ~= own and not done[name] and (only == '' or only == name) then
    done[name] = true
    -- A gateway listens at the node that has the slot, where its subscription is counted.
    local names = redis.call(publish, channels .. name, message) > 0 and reached or unheard
    names[#names + 1] = name
  end
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], string.format('%.0f', now), '+inf')) do
  ask(name_of(id))
end
for _, id in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  done[name_of(id)] = true
end
for i = 6, #ARGV do
  ask(ARGV[i])
end
return { reached, unheard }
