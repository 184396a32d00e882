-- ARGV: 3... (smallest key, largest key)...
-- Answers with (member of the bucket, member of the next one or nil, base, tail)...; four nils for a group that does not
-- lie in one bucket; empty when there is no bucket.
if redis.call('EXISTS', directory) == 0 then return {} end
local answer = {}
for at = 3, #ARGV, 2 do
    local member = bucket_of(ARGV[at])
    local found = { false, false, false, false }
    if ARGV[at] == ARGV[at + 1] or bucket_of(ARGV[at + 1]) == member then
        local next = redis.call('ZRANGEBYLEX', directory, '(' .. member, '+', 'LIMIT', 0, 1)[1] or false
        found = { member, next, redis.call('GET', base_key(member)) or '', redis.call('GET', tail_key(member)) or '' }
    end
    for field = 1, 4 do answer[#answer + 1] = found[field] end
end
return answer
