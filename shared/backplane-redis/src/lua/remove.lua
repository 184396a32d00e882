-- KEYS: 1 entries, 2 index. ARGV: keys
for _, key in ipairs(ARGV) do
    redis.call('HDEL', KEYS[1], key)
    redis.call('ZREM', KEYS[2], key)
end
return 0
