-- Takes an attempt back from each counter of KEYS. ARGV has the step of each, in milliseconds.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for place, key in ipairs(KEYS) do
  local empty_in = tonumber(redis.call('GET', key) or now) - now - tonumber(ARGV[place])
  if empty_in > 0 then
    redis.call('SET', key, string.format('%.0f', now + empty_in), 'PX', string.format('%.0f', empty_in))
  else
    redis.call('DEL', key)
  end
end
