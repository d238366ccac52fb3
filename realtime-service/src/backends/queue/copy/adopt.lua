-- Takes the lease of a queue that no gateway holds. From then on its gateway writes nothing to the copy any more.
--
-- KEYS  1 the lease: its holder   2 the edition and the version at which the queue was adopted
--       3 a hash: the rows of the copy   4, 5 the draft of a copy
-- ARGV  1 the name of the adopter   2 the lease in ms   3 the time in ms for which the mark is kept
-- Returns 1, or 0 when the queue is held, or -1 when there is no copy of it.

-- Removes nothing. After a first write that takes no memory, a full Redis carries out all others.
redis.call('HDEL', KEYS[3], '')

local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return 0
end
local source = redis.call('HMGET', KEYS[3], 'edition', 'version')
if not (source[1] and source[2]) then
  -- A gateway that has only begun a draft has acknowledged nothing by it.
  redis.call('UNLINK', KEYS[4], KEYS[5])
  return -1
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('SET', KEYS[2], source[1] .. ' ' .. source[2], 'PX', ARGV[3])
return 1
