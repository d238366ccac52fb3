-- Counts an attempt at each counter of KEYS that has room for it, and returns the place and the level of
-- each that has none. ARGV has the step and the window of each, in milliseconds. A counter is the time at
-- which it will be empty again (the generic cell rate algorithm), by the clock of the server; its key
-- expires at that time. A time that is further away than the window comes from a longer window or another
-- clock, and is brought back to the window.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local full = {}
for place, key in ipairs(KEYS) do
  local step, window = tonumber(ARGV[2 * place - 1]), tonumber(ARGV[2 * place])
  local stored = math.max(tonumber(redis.call('GET', key) or now) - now, 0)
  local empty_in = math.min(stored, window)
  if empty_in < stored then
    redis.call('SET', key, string.format('%.0f', now + window), 'PX', string.format('%.0f', window))
  end
  if empty_in + step <= window then
    local text = string.format('%.0f', now + empty_in + step)
    redis.call('SET', key, text, 'PX', string.format('%.0f', empty_in + step))
  else
    full[#full + 1] = {place - 1, empty_in}
  end
end
return full
