-- ARGV: 3... (member, write counter, summary)...
for at = 3, #ARGV, 3 do
    local base = base_key(ARGV[at])
    local header = redis.call('GETRANGE', base, 0, 41)
    if string.sub(header, 1, 1) == '\1' and string.sub(header, 10, 17) == ARGV[at + 1] then
        redis.call('SETRANGE', base, 17, '\1' .. ARGV[at + 2])
    end
end
return {}
