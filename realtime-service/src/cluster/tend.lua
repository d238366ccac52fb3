-- Renews or begins the lease of a gateway, and removes what dead gateways left.
--
-- A gateway writes its share of a thing under the key THING:ID, adds ID to the set THING, and adds THING
-- to the set SHARES:ID. The share of a dead gateway is deleted, and the channel THING is told `D ID`.
--
-- KEYS  1 a sorted set: the registered gateways, each with the time in ms at which its lease ends
--       2 another: the gateways that have ended, each with the time in ms after which its shares go
-- ARGV  1 the id of the gateway   2 its lease in ms   3 1 to begin the lease, 0 to renew it
--       4 the name of the key SHARES   5 maximum number of shares to remove
--       6 the command that publishes
-- Returns whether the gateway has a lease, whether shares are left to remove, the ids with a lease, and the
-- ids that have ended.
local id, lease, shares, budget = ARGV[1], tonumber(ARGV[2]), ARGV[4], tonumber(ARGV[5])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Removes nothing. A full Redis refuses a script whose first write takes memory. After a first write that
-- takes none, it carries out all others, so that leases are renewed.
redis.call('ZREM', KEYS[2], '')

local ends = tonumber(redis.call('ZSCORE', KEYS[1], id) or 0)
-- A lease that has run out is not renewed: the share may be removed in part.
local has_lease = ARGV[3] == '1' or ends >= now
if has_lease then
  redis.call('ZADD', KEYS[1], string.format('%.0f', now + lease), id)
end

local function remove_shares(register)
  local past = '(' .. string.format('%.0f', now)
  for _, dead in ipairs(redis.call('ZRANGEBYSCORE', register, '-inf', past, 'LIMIT', 0, 100)) do
    local left = shares .. ':' .. dead
    for _, thing in ipairs(budget > 0 and redis.call('SRANDMEMBER', left, budget) or {}) do
      redis.call('DEL', thing .. ':' .. dead)
      redis.call('SREM', thing, dead)
      redis.call(ARGV[6], thing, 'D ' .. dead)
      -- The reference goes last: when a call before raises an error, the share is removed the next time.
      redis.call('SREM', left, thing)
      budget = budget - 1
    end
    if redis.call('EXISTS', left) == 0 then
      redis.call('ZREM', register, dead)
    end
  end
end
remove_shares(KEYS[1])
remove_shares(KEYS[2])
local living = redis.call('ZRANGEBYSCORE', KEYS[1], string.format('%.0f', now), '+inf')
local ended = redis.call('ZRANGE', KEYS[2], 0, -1)
return { has_lease and 1 or 0, budget > 0 and 0 or 1, living, ended }
