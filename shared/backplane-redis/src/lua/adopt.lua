-- L11: a pipeline gets its copy of the incarnation only while the store's is the one that the client works with.
-- KEYS: 1 the store's incarnation, 2 the pipeline's copy. ARGV: 1 the incarnation that the client works with.
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[1])
return 1
