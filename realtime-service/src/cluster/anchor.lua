-- Names the data and the process of one shard of a Redis Cluster for all gateways.
--
-- KEYS  1 the tenure: the run of the server that has the shard, and a random text
-- ARGV  1 the run of the server   2 a random text, in case a tenure begins
--       3 the tenure that the gateway has of this server while the key moves to another slot, or an empty text
-- Returns the tenure. Another run, or none, means that the data was another server's, or was deleted.
local run, tenure = ARGV[1], redis.call('GET', KEYS[1])
if not tenure or string.sub(tenure, 1, #run + 1) ~= run .. ' ' then
  tenure = ARGV[3] ~= '' and ARGV[3] or run .. ' ' .. ARGV[2]
end
-- Written in any case: a replica refuses to write, and is no server to work with. A full Redis refuses a script
-- whose first write takes memory.
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], tenure)
return tenure
