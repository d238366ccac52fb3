-- Reads a part of what is kept.
--
-- ARGV  11 the epoch of the last message that the reader has, or an empty text   12 its offset
--       13 number of the last messages, when there is no coming back   14 maximum number, or -1
-- Returns the epoch, the newest offset, whether nothing is missing (-1 when no place was named), 1 when
-- there are more messages, and then offset and text of each message.
local since, after = ARGV[11], tonumber(ARGV[12])
local last, maximum = tonumber(ARGV[13]), tonumber(ARGV[14])

trim()
redis.call('HSET', state, 'bytes', text(bytes))
local count = redis.call('XLEN', messages)
local recovered, wanted = -1, math.min(last, count)
if since ~= '' then
  local missing = offset - after
  if since == epoch and missing >= 0 and missing <= count then
    recovered, wanted = 1, missing
  else
    recovered = 0
    -- A reader of pages goes on at the first message that is kept.
    if maximum >= 0 then
      wanted = count
    end
  end
end
local more = 0
local take = wanted
if maximum >= 0 and wanted > maximum then
  take, more = maximum, 1
end
local answer = { epoch, offset, recovered, more }
if take > 0 then
  local first = text(offset - wanted + 1) .. '-1'
  local entries = redis.call('XRANGE', messages, first, '+', 'COUNT', take)
  if #entries < take then
    answer[3] = math.min(recovered, 0)
  end
  for _, entry in ipairs(entries) do
    local split = string.find(entry[1], '-', 1, true)
    answer[#answer + 1] = tonumber(string.sub(entry[1], 1, split - 1))
    answer[#answer + 1] = entry[2][6]
  end
end
return answer
