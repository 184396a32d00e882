-- ARGV: 3... (smallest key, largest key)...
-- Answers with (base, tail)...; (nil, nil) for a group that does not lie in one bucket; empty when there is no bucket.
if redis.call('EXISTS', directory) == 0 then return {} end
local answer = {}
for at = 3, #ARGV, 2 do
    local member = bucket_of(ARGV[at])
    if ARGV[at] ~= ARGV[at + 1] and bucket_of(ARGV[at + 1]) ~= member then
        answer[#answer + 1] = false
        answer[#answer + 1] = false
    else
        answer[#answer + 1] = redis.call('GET', base_key(member)) or ''
        answer[#answer + 1] = redis.call('GET', tail_key(member)) or ''
    end
end
return answer
