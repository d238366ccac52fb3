-- Writes rows of a gateway about who is in a room, and tells the other gateways.
--
-- KEYS  1 the registered gateways   2 a set: the ids of the gateways with rows; the channel of the room
--       3 a hash: the rows of the gateway   4 a set: the shares of the gateway
-- ARGV  1 the command that publishes   2 the id of the gateway   3 `replace`, `change` or `drop`
--       4 the text of the field without a name   5 the first line of the message
--       6… a field and its value, which is empty for a row to delete, and so on
-- Returns 0 when the gateway has no lease: then nothing is written.
local publish, id, kind = ARGV[1], ARGV[2], ARGV[3]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if tonumber(redis.call('ZSCORE', KEYS[1], id) or 0) < now then
  return 0
end
if kind ~= 'change' then
  redis.call('DEL', KEYS[3])
end
if kind == 'drop' then
  redis.call('SREM', KEYS[2], id)
  redis.call('SREM', KEYS[4], KEYS[2])
else
  for i = 6, #ARGV, 2 do
    if ARGV[i + 1] == '' then
      redis.call('HDEL', KEYS[3], ARGV[i])
    else
      redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1])
    end
  end
  redis.call('HSET', KEYS[3], '', ARGV[4])
  redis.call('SADD', KEYS[2], id)
  redis.call('SADD', KEYS[4], KEYS[2])
end
redis.call(publish, KEYS[2], table.concat(ARGV, '\n', 5))
return 1
