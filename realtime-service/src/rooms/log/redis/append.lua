-- Appends a message, unless one has the same id, and publishes it.
--
-- ARGV  11 the message   12 its id, or an empty text   13 the time in ms for which ids are known
--       14 maximum number of ids
-- Returns the epoch, the offset, 1 for an id that a message had before, and that message if it is kept.
local message, id, lifetime, most_ids = ARGV[11], ARGV[12], tonumber(ARGV[13]), tonumber(ARGV[14])

-- Takes the oldest id out, if `is_enough` says so of its time.
local function forget_oldest(is_enough)
  local oldest = redis.call('LINDEX', order, -1)
  local split = oldest and string.find(oldest, ' ', 1, true)
  if not split or not is_enough(tonumber(string.sub(oldest, 1, split - 1))) then
    return false
  end
  redis.call('RPOP', order)
  redis.call('HDEL', ids, string.sub(oldest, split + 1))
  return true
end

if id ~= '' then
  while forget_oldest(function(at) return at + lifetime <= now end) do end
  local known = redis.call('HGET', ids, id)
  if known then
    local place = known .. '-1'
    local first = redis.call('XRANGE', messages, place, place)[1]
    return { epoch, tonumber(known), 1, first and first[2][6] or false }
  end
  while redis.call('LLEN', order) >= most_ids and forget_oldest(function() return true end) do end
end

offset = offset + 1
if id ~= '' then
  redis.call('HSET', ids, id, text(offset))
  redis.call('LPUSH', order, text(now) .. ' ' .. id)
  redis.call('PEXPIRE', ids, lifetime)
  redis.call('PEXPIRE', order, lifetime)
end
if most > 0 then
  -- The stream expires as a whole, and the sum of its bytes does not.
  if redis.call('EXISTS', messages) == 0 then
    bytes = 0
  end
  bytes = bytes + #message
  redis.call('XADD', messages, text(offset) .. '-1', 'at', text(now), 'size', #message, 'message', message)
  redis.call('PEXPIRE', messages, age)
  trim()
else
  redis.call('DEL', messages)
  bytes = 0
end
redis.call('HSET', state, 'offset', text(offset), 'bytes', text(bytes))
redis.call('EXPIRE', state, ARGV[7])
redis.call(ARGV[10], channel, epoch .. ' ' .. text(offset) .. ' ' .. message)
return { epoch, offset, 0, false }
