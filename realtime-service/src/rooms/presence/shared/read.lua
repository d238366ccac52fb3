-- Reads the first rows of each gateway about who is in a room.
--
-- KEYS  1 a set: the ids of the gateways with rows
-- ARGV  1 about how many rows of each gateway
-- Returns for each gateway the id, the text of the field without a name, where to read on, and fields
-- with their values.
local pages = {}
for _, id in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local rows = KEYS[1] .. ':' .. id
  local written = redis.call('HGET', rows, '')
  if written then
    local page = redis.call('HSCAN', rows, '0', 'COUNT', ARGV[1])
    pages[#pages + 1] = { id, written, page[1], page[2] }
  end
end
return pages
