-- Returns the place of each counter of KEYS that is not empty, and the time until it is, in milliseconds.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local levels = {}
for place, key in ipairs(KEYS) do
  local empty_at = redis.call('GET', key)
  if empty_at then
    levels[#levels + 1] = {place - 1, math.max(tonumber(empty_at) - now, 0)}
  end
end
return levels
