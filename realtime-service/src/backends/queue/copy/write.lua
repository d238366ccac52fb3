-- Writes rows to the copy of a queue, or to a draft that takes the place of the copy once it is whole.
--
-- KEYS  1 the lease: its holder   2 the mark of an adopted queue
--       3 a hash: the rows of the copy by their names, its `edition` and its `version`
--       4 a sorted set: the names in their order   5, 6 the same two of the draft
-- ARGV  1 the id of the queue   2 its lease in ms   3 the step: `begin`, `fill` or `finish` of a draft, or `change`
--       4 the edition   5 the version that the rows follow   6 the version with the rows
--       7, 8, … the name of a row, and the row; or nothing, when there is none any more
-- Returns 1, or 0 when the copy or draft is not the one that the rows belong to, or -1 when the queue was adopted.
local step, edition = ARGV[3], ARGV[4]
local before, after = tonumber(ARGV[5]), tonumber(ARGV[6])
if redis.call('EXISTS', KEYS[2]) == 1 then
  return -1
end

local rows, order = KEYS[5], KEYS[6]
if step == 'begin' then
  redis.call('UNLINK', rows, order)
  redis.call('HSET', rows, 'edition', edition)
elseif step == 'change' then
  rows, order = KEYS[3], KEYS[4]
end

if redis.call('HGET', rows, 'edition') ~= edition then
  return 0
end
if step == 'change' then
  -- A version in between is that of a request whose answer was lost.
  local version = tonumber(redis.call('HGET', rows, 'version'))
  if version < before or version > after then
    return 0
  end
end

redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
for place = 7, #ARGV, 2 do
  local name, row = ARGV[place], ARGV[place + 1]
  if row == '' then
    redis.call('HDEL', rows, name)
    redis.call('ZREM', order, name)
  else
    redis.call('HSET', rows, name, row)
    redis.call('ZADD', order, 0, name)
  end
end
if step == 'change' or step == 'finish' then
  redis.call('HSET', rows, 'version', ARGV[6])
end
if step == 'finish' then
  redis.call('UNLINK', KEYS[3], KEYS[4])
  redis.call('RENAME', rows, KEYS[3])
  -- An empty queue has no names.
  if redis.call('EXISTS', order) == 1 then
    redis.call('RENAME', order, KEYS[4])
  end
end
return 1
