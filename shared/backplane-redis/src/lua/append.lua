-- ARGV: 3 '1' to create the first bucket, 4 marks of an empty bucket, then (smallest key, largest key, patch)...
-- Answers with (bytes of the tail, bytes of the base)...; -1 for a group that does not lie in one bucket.
-- L4: patches are only appended; reading merges them by version.
local exists = redis.call('EXISTS', directory) == 1
if not exists and ARGV[3] ~= '1' then return {} end

-- The first write: where memory is short it is refused, and then nothing is written.
local writes = struct.pack('>I8', redis.call('INCR', KEYS[3]))
local no_summary = string.rep('\0', 17)

if not exists then
    redis.call('ZADD', directory, 0, '.')
    redis.call('DEL', tail_key('.'))
    redis.call('SET', base_key('.'), '\1' .. writes .. writes .. no_summary .. string.rep('\0', 8) .. ARGV[4])
end

local answer = {}
for at = 5, #ARGV, 3 do
    local member = bucket_of(ARGV[at])
    if ARGV[at] ~= ARGV[at + 1] and bucket_of(ARGV[at + 1]) ~= member then
        answer[#answer + 1] = -1
        answer[#answer + 1] = 0
    else
        local base = base_key(member)
        local fault = wrong(redis.call('GETRANGE', base, 0, 0))
        if fault then return fault end
        local bytes = redis.call('APPEND', tail_key(member), ARGV[at + 2])
        redis.call('SETRANGE', base, 9, writes .. no_summary .. struct.pack('>I4', bytes))
        answer[#answer + 1] = bytes
        answer[#answer + 1] = redis.call('STRLEN', base)
    end
end
return answer
