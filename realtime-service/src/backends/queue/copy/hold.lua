-- Renews or takes the lease of a queue, unless another gateway has adopted the queue.
--
-- KEYS  1 the lease: its holder   2 the edition and the version at which the queue was adopted
--       3 a hash: the rows of the copy
-- ARGV  1 the id of the queue   2 its lease in ms
-- Returns nothing, or the edition and the version of an adopted queue.

-- Removes nothing. After a first write that takes no memory, a full Redis carries out all others.
redis.call('HDEL', KEYS[3], '')

local adopted = redis.call('GET', KEYS[2])
if adopted then
  return adopted
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return false
