-- The log of one room, before the part that appends or reads.
--
-- KEYS  1 a hash: the run of the server, the epoch, the newest offset, the bytes that are kept
--       2 a stream: the kept messages, each under its offset
--       3 a hash: the offset of each message that has an id of its publisher's choice
--       4 a list: these ids, the newest first, each after the time at which it was used
-- ARGV  1 the run of the server   2 an epoch, in case one begins   3 the room's channel
--       4 maximum number of messages   5 their maximum age in ms   6 their maximum bytes
--       7 the time in s after which a room that nobody uses is forgotten
--       8 the same for a room that had no message
--       9 the runs of other servers that handed the room over to this one, each in a line
--       10 the command that publishes
--
-- A message of the channel is the epoch, the offset, and the message, with a space between two of
-- them. Offset 0 has no message: an epoch has begun.
local state, messages, ids, order = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local run, channel = ARGV[1], ARGV[3]
local most, age, limit = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])

local function text(number)
  return string.format('%.0f', number)
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local kept = redis.call('HMGET', state, 'run', 'epoch', 'offset', 'bytes')
local epoch, offset, bytes = kept[2], tonumber(kept[3]), tonumber(kept[4]) or 0
-- The room is complete, and its next messages are this run's.
if kept[1] and kept[1] ~= run and string.find('\n' .. ARGV[9] .. '\n', '\n' .. kept[1] .. '\n', 1, true) then
  redis.call('HSET', state, 'run', run)
  kept[1] = run
end
-- What another run of the server wrote may lack its end, and offsets must not be given twice.
if kept[1] ~= run or not epoch or not offset then
  epoch, offset, bytes = ARGV[2], 0, 0
  redis.call('DEL', messages, ids, order)
  redis.call('HSET', state, 'run', run, 'epoch', epoch, 'offset', 0, 'bytes', 0)
  redis.call(ARGV[10], channel, epoch .. ' 0 ')
end
-- Anybody can ask for the history of rooms that nobody has published in.
redis.call('EXPIRE', state, offset == 0 and ARGV[8] or ARGV[7])

-- Forgets the oldest messages, beyond the bounds.
local function trim()
  local count = redis.call('XLEN', messages)
  if count == 0 then
    bytes = 0
    return
  end
  while count > 0 do
    local first = redis.call('XRANGE', messages, '-', '+', 'COUNT', 1)[1]
    local at, size = tonumber(first[2][2]), tonumber(first[2][4])
    if count <= most and bytes <= limit and at + age > now then
      return
    end
    redis.call('XDEL', messages, first[1])
    bytes, count = bytes - size, count - 1
  end
  bytes = 0
end
