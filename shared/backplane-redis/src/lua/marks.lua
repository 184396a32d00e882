-- Before every script on a pipeline's marks.
-- KEYS: 1 the pipeline's copy of the incarnation, 2 directory, 3 write counter
-- ARGV: 1 the incarnation that the client works with, 2 what the keys of buckets and tails begin with
-- L11: checked in the step that touches the marks. nil says that this is another incarnation.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return false end

local directory = KEYS[2]

-- What is gone was evicted or deleted by somebody: never an empty answer.
if redis.call('EXISTS', directory) == 0 and redis.call('EXISTS', KEYS[3]) == 1 then
    return redis.error_reply('FIDESGONE the directory of buckets is gone')
end

-- The member of the directory whose bucket holds a key.
local function bucket_of(key)
    return redis.call('ZREVRANGEBYLEX', directory, '[.' .. key, '-', 'LIMIT', 0, 1)[1]
end

local function base_key(member) return ARGV[2] .. 'bucket:' .. member end
local function tail_key(member) return ARGV[2] .. 'tail:' .. member end

-- The error of a bucket's first byte, or nil.
local function wrong(format)
    if format == '\1' then return nil end
    if format == '' then return redis.error_reply('FIDESGONE a bucket is gone') end
    return redis.error_reply('FIDESFORMAT a bucket has format ' .. string.byte(format))
end
