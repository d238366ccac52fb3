-- Removes the copy of an adopted queue, whose rows the adopter has stored. The mark stays.
--
-- KEYS  1 the lease: its holder   2 the mark of an adopted queue   3, 4, … the copy and its draft
-- ARGV  1 the name of the adopter   2 the time in ms for which the mark is kept
-- Returns whether it was removed.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('UNLINK', KEYS[3], KEYS[4], KEYS[5], KEYS[6])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
redis.call('DEL', KEYS[1])
return 1
