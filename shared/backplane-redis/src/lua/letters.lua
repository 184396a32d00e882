-- KEYS: 1 letters, 2 index. ARGV: 1 letters at most, then (key, format, attempts, first time, letter)...
-- Answers with how many there are when new ones would be too many, and then stores nothing; otherwise nil.
local fresh, seen = 0, {}
for at = 2, #ARGV, 5 do
    if not seen[ARGV[at]] and redis.call('HEXISTS', KEYS[1], ARGV[at]) == 0 then fresh = fresh + 1 end
    seen[ARGV[at]] = true
end
local count = redis.call('HLEN', KEYS[1])
if fresh > 0 and count + fresh > tonumber(ARGV[1]) then return count end
for at = 2, #ARGV, 5 do
    local key, attempts, first = ARGV[at], ARGV[at + 2], ARGV[at + 3]
    local before = redis.call('HGET', KEYS[1], key)
    if before and string.sub(before, 1, 1) == ARGV[at + 1] then
        attempts = struct.pack('>I4', math.min(struct.unpack('>I4', before, 2) + struct.unpack('>I4', attempts), 2 ^ 32 - 1))
        first = string.sub(before, 6, 13)
    end
    redis.call('HSET', KEYS[1], key, ARGV[at + 1] .. attempts .. first .. ARGV[at + 4])
    redis.call('ZADD', KEYS[2], 0, key)
end
return false
