-- Reads rows of an adopted queue in their order, and renews the lease of the adopter.
--
-- KEYS  1 the lease: its holder   2 a hash: the rows   3 a sorted set: the names of the rows
-- ARGV  1 the name of the adopter   2 the lease in ms   3 the beginning of the range of names
--       4 maximum number of rows   5 number of bytes after which no further row is returned
-- Returns the names and the rows in turns, or nothing when the adopter has no lease any more.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return false
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local page, bytes, most = {}, 0, tonumber(ARGV[5])
for _, name in ipairs(redis.call('ZRANGEBYLEX', KEYS[3], ARGV[3], '+', 'LIMIT', 0, ARGV[4])) do
  local row = redis.call('HGET', KEYS[2], name) or ''
  page[#page + 1] = name
  page[#page + 1] = row
  bytes = bytes + #row
  if bytes >= most then
    break
  end
end
return page
