"""What a Redis log runs inside Redis, each whole or not at all. Plain Redis 6.2 or Valkey will do.

All keys begin with ``KEYS[1]``, so the cluster mode of Redis, which must know each key, is not for
us:

``log``            the bus: a stream of everything in its order, short; nodes read it
``kept``           a stream of the messages for everybody, for history
``mail:IDENTITY``  the same of one person's private messages
``said:IDENTITY``, ``was:IDENTITY``   the places of that person's last attempts, by mark, in two
                   generations: when the first is full it becomes the second
``sent:NODE``      the last number of its own that a node has appended
``epoch``          a random word; if it is another one, Redis has lost what it had
``node:NODE``      there while the node is alive: its lease
``nodes``          every node that may have people
``people``         who is here: by the key of the name, the JSON of a `Holder`
"""

from __future__ import annotations

from typing import Final

__all__ = ["APPEND", "CLAIM", "RELEASE", "RENEW", "SYNC"]

APPEND: Final = """
local p, node, first, epoch = KEYS[1], ARGV[1], tonumber(ARGV[2]), ARGV[3]
local bus_length, kept_length, attempts = ARGV[4], ARGV[5], tonumber(ARGV[6])
if redis.call('GET', p..'epoch') ~= epoch then
    return redis.error_reply('EPOCH this log has lost its beginning')
end
local last = tonumber(redis.call('GET', p..'sent:'..node) or '0')
local answers = {}
for i = 7, #ARGV, 5 do
    local kind, readers, who, mark, data = ARGV[i], ARGV[i+1], ARGV[i+2], ARGV[i+3], ARGV[i+4]
    local number = first + (i - 7) / 5
    local said = false
    if mark ~= '' then
        said = redis.call('HGET', p..'said:'..who, mark) or redis.call('HGET', p..'was:'..who, mark)
    end
    if said then
        answers[#answers+1] = said
    elseif number <= last then
        answers[#answers+1] = ''
    else
        local id = redis.call('XADD', p..'log', 'MAXLEN', '~', bus_length, '*',
                              'n', node, 's', number, 'k', kind, 'd', data)
        if kind == 'message' and readers == '' then
            if kept_length == '0' then
                redis.call('XADD', p..'kept', id, 'd', data)
            else
                redis.call('XADD', p..'kept', 'MAXLEN', '~', kept_length, id, 'd', data)
            end
        elseif kind == 'message' then
            for reader in string.gmatch(readers, '%S+') do
                redis.call('XADD', p..'mail:'..reader, 'MAXLEN', '~', 10000, id, 'd', data)
            end
        end
        if mark ~= '' then
            redis.call('HSET', p..'said:'..who, mark, id)
            if redis.call('HLEN', p..'said:'..who) > attempts then
                redis.call('RENAME', p..'said:'..who, p..'was:'..who)
                redis.call('EXPIRE', p..'was:'..who, 3600)
            else
                redis.call('EXPIRE', p..'said:'..who, 3600)
            end
        end
        answers[#answers+1] = ''
    end
    if number > last then last = number end
end
redis.call('SET', p..'sent:'..node, string.format('%.0f', last), 'EX', 86400)
return answers
"""
"""Append entries, unless they have been. For each the place of its first attempt, or nothing."""

SYNC: Final = """
local p, fresh, place = KEYS[1], ARGV[1], ARGV[2]
redis.call('SET', p..'epoch', fresh, 'NX')
local last, deleted = '0-0', '0-0'
if redis.call('EXISTS', p..'log') == 1 then
    local info = redis.call('XINFO', 'STREAM', p..'log')
    for i = 1, #info, 2 do
        if info[i] == 'last-generated-id' then last = info[i+1] end
        if info[i] == 'max-deleted-entry-id' then deleted = info[i+1] end
    end
end
return {redis.call('GET', p..'epoch'), last, deleted, redis.call('HVALS', p..'people')}
"""
"""Say which log this is, how far it goes, up to where it is forgotten, and who is here."""

_FORGET_DEAD: Final = """
local function bury(p, node)
    local people = redis.call('HGETALL', p..'people')
    for i = 1, #people, 2 do
        local holder = cjson.decode(people[i+1])
        if holder.node == node then
            redis.call('HDEL', p..'people', people[i])
            local data = cjson.encode({holder.name, 'all', 'left', {}, holder.identity})
            redis.call('XADD', p..'log', 'MAXLEN', '~', 100000, '*',
                       'n', '', 's', 0, 'k', 'presence', 'd', data)
        end
    end
    redis.call('SREM', p..'nodes', node)
end
"""

RENEW: Final = (
    _FORGET_DEAD
    + """
local p, node, lease, fresh = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
if fresh == '0' and redis.call('EXISTS', p..'node:'..node) == 0 then return 0 end
redis.call('SET', p..'node:'..node, 1, 'PX', lease)
redis.call('SADD', p..'nodes', node)
for _, other in ipairs(redis.call('SMEMBERS', p..'nodes')) do
    if redis.call('EXISTS', p..'node:'..other) == 0 then bury(p, other) end
end
return 1
"""
)
"""Renew a node's lease, and announce the people of nodes whose lease has ended. 0: it was ours."""

CLAIM: Final = (
    _FORGET_DEAD
    + """
local p, node, key, holder, proof = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if redis.call('EXISTS', p..'node:'..node) == 0 then return 'no-lease' end
local held = redis.call('HGET', p..'people', key)
local outcome = 'new'
if held then
    held = cjson.decode(held)
    if redis.call('EXISTS', p..'node:'..held.node) == 0 then
        bury(p, held.node)
    elseif held.proof ~= proof then
        return 'taken'
    elseif held.node ~= node then
        redis.call('XADD', p..'log', 'MAXLEN', '~', 100000, '*',
                   'n', '', 's', 0, 'k', 'moved',
                   'd', cjson.encode({held.name, 'all', node, {}, held.identity}))
        outcome = 'moved'
    end
end
redis.call('HSET', p..'people', key, holder)
return outcome
"""
)
"""Give a name to a node's person: new, moved (from another node), taken or no-lease."""

RELEASE: Final = """
local p, node, key, proof = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local held = redis.call('HGET', p..'people', key)
if not held then return 0 end
held = cjson.decode(held)
if held.node ~= node or held.proof ~= proof then return 0 end
return redis.call('HDEL', p..'people', key)
"""
"""Make a name free, if it is this node's and this person's."""
