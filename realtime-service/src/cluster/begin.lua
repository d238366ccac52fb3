-- Names the data and the process of the server for all gateways.
--
-- KEYS  1 the incarnation: a random text, which is there until all data is deleted
--       2 the tenure: the run of the server, and a random text when the run took over the data of another
-- ARGV  1 the run of the server   2 a random text, in case it is needed
-- Returns both.
local run, random = ARGV[1], ARGV[2]
local tenure = redis.call('GET', KEYS[2]) or run
if tenure ~= run and string.sub(tenure, 1, #run + 1) ~= run .. ' ' then
  tenure = run .. ' ' .. random
end
-- Written in any case: a replica refuses to write, and is no server to work with. A full Redis refuses a script
-- whose first write takes memory.
redis.call('DEL', KEYS[2])
redis.call('SET', KEYS[1], random, 'NX')
redis.call('SET', KEYS[2], tenure)
return { redis.call('GET', KEYS[1]), tenure }
