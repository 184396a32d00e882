-- ARGV: 3 a key: the walk begins with its bucket, 4 where it ends (a bound of ZRANGEBYLEX), 5 buckets at most,
--       6 what to read: 'lowers', 'headers', 'marks', or 'sizes': marks only where there is a tail
-- Answers with the member of the directory behind the last one, or nil, then (member, base, tail, bytes)...
local first = bucket_of(ARGV[3])
if not first then return { false } end
local members = redis.call('ZRANGEBYLEX', directory, '[' .. first, ARGV[4], 'LIMIT', 0, tonumber(ARGV[5]))
local last = members[#members]
local answer = { last and redis.call('ZRANGEBYLEX', directory, '(' .. last, '+', 'LIMIT', 0, 1)[1] or false }
for _, member in ipairs(members) do
    local base, tail, bytes = '', '', 0
    if ARGV[6] ~= 'lowers' then base = redis.call('GETRANGE', base_key(member), 0, 41) end
    if ARGV[6] == 'sizes' then
        bytes = redis.call('STRLEN', base_key(member)) + redis.call('STRLEN', tail_key(member))
    end
    if ARGV[6] == 'marks' or (ARGV[6] == 'sizes' and string.sub(base, 35, 38) ~= '\0\0\0\0') then
        base = redis.call('GET', base_key(member)) or ''
        tail = redis.call('GET', tail_key(member)) or ''
    end
    answer[#answer + 1] = member
    answer[#answer + 1] = base
    answer[#answer + 1] = tail
    answer[#answer + 1] = bytes
end
return answer
