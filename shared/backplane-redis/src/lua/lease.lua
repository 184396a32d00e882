-- KEYS: 1 leases, 2 counter of tokens. ARGV: 1 key, 2 holder, 3 milliseconds
-- Answers with the token, or nil. On Redis' own clock; what has ended counts as not there.
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local till = struct.pack('>I8', math.min(now + tonumber(ARGV[3]), 2 ^ 53))
local held = redis.call('HGET', KEYS[1], ARGV[1])
local token
if held and struct.unpack('>I8', held) > now then
    if string.sub(held, 17) ~= ARGV[2] then return false end
    token = struct.unpack('>I8', held, 9)
else
    -- L6: somebody else may have held it in between; a token is never used again.
    token = redis.call('INCR', KEYS[2])
end
redis.call('HSET', KEYS[1], ARGV[1], till .. struct.pack('>I8', token) .. ARGV[2])
return token
