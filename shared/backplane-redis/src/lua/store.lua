-- ARGV: 3 bytes that may have come to a tail while its bucket was split, then for each bucket: its member, its generation,
--       bytes of its tail that were merged, number of pieces, and (member, marks that may exist, marks)... of the pieces
-- A bucket that another client was first to change is left alone. What came to a tail since stays, in the tail of every
-- piece: readers skip what is not in range.
local since_max, at, writes = tonumber(ARGV[3]), 4, nil
while at <= #ARGV do
    local base, tail, pieces = base_key(ARGV[at]), tail_key(ARGV[at]), tonumber(ARGV[at + 3])
    local generation, merged, piece = ARGV[at + 1], ARGV[at + 2], at + 4
    at = piece + 3 * pieces
    local header = redis.call('GETRANGE', base, 0, 41)
    local fault = wrong(string.sub(header, 1, 1))
    if fault then return fault end
    local since = redis.call('GETRANGE', tail, merged, -1)
    if string.sub(header, 2, 9) == generation and (pieces == 1 or #since <= since_max) then
        -- The first write: where memory is short it is refused, and then nothing is written.
        writes = writes or struct.pack('>I8', redis.call('INCR', KEYS[3]))
        -- A merge changes no mark: write counter and summary stay. A piece of a split is another bucket.
        local kept = pieces == 1 and string.sub(header, 10, 34) or writes .. string.rep('\0', 17)
        for piece = piece, at - 1, 3 do
            redis.call('ZADD', directory, 0, ARGV[piece])
            redis.call('SET', base_key(ARGV[piece]),
                '\1' .. writes .. kept .. struct.pack('>I4', #since) .. ARGV[piece + 1] .. ARGV[piece + 2])
            if since == '' then
                redis.call('DEL', tail_key(ARGV[piece]))
            else
                redis.call('SET', tail_key(ARGV[piece]), since)
            end
        end
    end
end
return {}
