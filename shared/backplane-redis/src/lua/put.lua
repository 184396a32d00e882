-- KEYS: 1 entries, 2 index, 3 counter of revisions
-- ARGV: 1 key, 2 value, 3 '' for whatever is there, '-' for nothing, otherwise the revision that must be there
-- Answers with the new revision, or nil. Revisions come from one counter: none repeats after a removal.
local stored = redis.call('HGET', KEYS[1], ARGV[1])
if ARGV[3] == '-' and stored then return false end
if #ARGV[3] == 8 and not (stored and string.sub(stored, 1, 8) == ARGV[3]) then return false end
local revision = redis.call('INCR', KEYS[3])
redis.call('HSET', KEYS[1], ARGV[1], struct.pack('>I8', revision) .. ARGV[2])
redis.call('ZADD', KEYS[2], 0, ARGV[1])
return revision
