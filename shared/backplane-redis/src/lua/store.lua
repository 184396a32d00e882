-- ARGV: 3 member of the bucket, 4 its generation, 5 bytes of the tail that were merged, 6 bytes that may have come since
--       when it is split, then (member, marks that may exist, marks)... of its pieces
-- Answers with something, or nothing when another client was first. What came to the tail since stays: readers skip what is not in range.
local base, tail = base_key(ARGV[3]), tail_key(ARGV[3])
local header = redis.call('GETRANGE', base, 0, 41)
local fault = wrong(string.sub(header, 1, 1))
if fault then return fault end
if string.sub(header, 2, 9) ~= ARGV[4] then return {} end
local since = redis.call('GETRANGE', tail, ARGV[5], -1)
local split = #ARGV > 9
if split and #since > tonumber(ARGV[6]) then return {} end

local writes = struct.pack('>I8', redis.call('INCR', KEYS[3]))
-- A merge changes no mark: write counter and summary stay. A piece of a split is another bucket.
local kept = split and writes .. string.rep('\0', 17) or string.sub(header, 10, 34)
for at = 7, #ARGV, 3 do
    redis.call('ZADD', directory, 0, ARGV[at])
    redis.call('SET', base_key(ARGV[at]),
        '\1' .. writes .. kept .. struct.pack('>I4', #since) .. ARGV[at + 1] .. ARGV[at + 2])
    if since == '' then
        redis.call('DEL', tail_key(ARGV[at]))
    else
        redis.call('SET', tail_key(ARGV[at]), since)
    end
end
return { 1 }
