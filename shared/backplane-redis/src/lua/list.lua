-- KEYS: 1 entries, 2 index. ARGV: 1 and 2 bounds of ZRANGEBYLEX, 3 entries at most
-- Answers with (key, value)..., in key order.
local answer = {}
for _, key in ipairs(redis.call('ZRANGEBYLEX', KEYS[2], ARGV[1], ARGV[2], 'LIMIT', 0, tonumber(ARGV[3]))) do
    answer[#answer + 1] = key
    answer[#answer + 1] = redis.call('HGET', KEYS[1], key) or ''
end
return answer
