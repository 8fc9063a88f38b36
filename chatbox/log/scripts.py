"""What a Redis log runs inside Redis, each whole or not at all. Plain Redis 6.2 or Valkey will do.

All keys begin with ``KEYS[1]``, so the cluster mode of Redis, which must know each key, is not for
us:

``log``            the bus: a stream of everything in its order, short; nodes read it
``kept``           a stream of the messages for everybody, for history
``mail:IDENTITY``  the same of one person's private messages
``ends:IDENTITY``  of these, the places of the newest that there ever was, as ``last``, and of the
                   newest that is gone, as ``gone``
``said:IDENTITY``, ``was:IDENTITY``   the places of that person's last attempts, and the connections
                   that they came by, by mark, in two generations: when the first is full it becomes
                   the second
``sent:RUN``       the last number of its own that a node has appended
``epoch``          a random word; if it is another one, Redis has lost all that it had
``from``           where the history begins: what was said before that place is gone
``mark``           the newest place up to which messages may have been lost by accident
``node:NODE``      there while the node is alive: its lease
``nodes``          every node that may have people
``people``         who is here: by the key of the name, a JSON object with name, identity, proof and
                   node, and whether others `know` of this person

Times are those of Redis's own clock.
"""

from __future__ import annotations

import hashlib
from typing import Final

from chatbox.log.streams import END_OF_TIME, SEQUENCE_BITS

__all__ = ["APPEND", "CLAIM", "FORGET", "HASHES", "LEAVE", "RELEASE", "RENEW", "SYNC"]

_NOW: Final = """
local function now()
    local time = redis.call('TIME')
    return time[1] * 1000 + math.floor(time[2] / 1000)
end
"""

_IS_PLACE: Final = f"""
local function is_place(id)
    local at, number = string.match(id, '^(%d+)-(%d+)$')
    return tonumber(at) < {END_OF_TIME} and tonumber(number) < {1 << SEQUENCE_BITS}
end
"""
"""Say whether there is a place for an id: see `chatbox.log.streams.place_of`."""

APPEND: Final = (
    _NOW
    + _IS_PLACE
    + """
local p, run, first, epoch, node = KEYS[1], ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local bus_length, kept_length, mail_length = ARGV[5], ARGV[6], ARGV[7]
local attempts, attempt_seconds, mail_seconds = tonumber(ARGV[8]), ARGV[9], ARGV[10]
local time = now()
local known_since = time - 1000 * attempt_seconds
local function post(reader, id, data)
    local mail, ends = p..'mail:'..reader, p..'ends:'..reader
    local gone = redis.call('EXISTS', mail) == 0 and redis.call('HGET', ends, 'last')
    local excess = redis.call('XLEN', mail) - mail_length
    if excess >= 100 then
        gone = redis.call('XRANGE', mail, '-', '+', 'COUNT', excess)[excess][1]
        redis.call('XTRIM', mail, 'MAXLEN', mail_length)
    end
    redis.call('XADD', mail, id, 'd', data)
    redis.call('HSET', ends, 'last', id)
    if mail_seconds ~= '0' then
        local oldest = string.format('%.0f-0', math.max(time - 1000 * mail_seconds, 0))
        local old = redis.call('XREVRANGE', mail, '('..oldest, '-', 'COUNT', 1)[1]
        if old then
            gone = old[1]
            redis.call('XTRIM', mail, 'MINID', oldest)
        end
        redis.call('EXPIRE', mail, mail_seconds)
        redis.call('EXPIRE', ends, 2 * mail_seconds)
    else
        redis.call('PERSIST', mail)
        redis.call('PERSIST', ends)
    end
    if gone then redis.call('HSET', ends, 'gone', gone) end
end
if redis.call('GET', p..'epoch') ~= epoch then
    return redis.error_reply('EPOCH this log has lost its beginning')
end
if redis.call('EXISTS', p..'node:'..node) == 0 then
    return redis.error_reply('FENCED this node is dead for the others')
end
local last = tonumber(redis.call('GET', p..'sent:'..run) or '0')
local answers, length = {}, redis.call('XLEN', p..'kept')
for i = 11, #ARGV, 6 do
    local kind, readers, who, mark, via, data = unpack(ARGV, i, i + 5)
    local number = first + (i - 11) / 6
    if via ~= '' then via = run..'.'..via end
    local said, by = false, ''
    if mark ~= '' then
        said = redis.call('HGET', p..'said:'..who, mark) or redis.call('HGET', p..'was:'..who, mark)
        if said then said, by = string.match(said, '^(%d+-%d+) (.*)$') end
        if said and tonumber(string.match(said, '%d+')) < known_since then said = false end
    end
    if said and (by == '' or by ~= via) then
        answers[#answers+1] = said
    elseif number <= last then
        answers[#answers+1] = ''
    else
        local id = redis.call('XADD', p..'log', 'MAXLEN', '~', bus_length, '*',
                              'n', run, 's', number, 'k', kind, 'd', data)
        if not is_place(id) then
            redis.call('SET', p..'sent:'..run, string.format('%.0f', last), 'EX', 86400)
            return redis.error_reply('PLACES there is no place for the id '..id)
        end
        if kind == 'message' and readers == '' then
            if kept_length == '0' then
                redis.call('XADD', p..'kept', id, 'd', data)
            else
                redis.call('XADD', p..'kept', 'MAXLEN', '~', kept_length, id, 'd', data)
            end
            length = length + 1
        elseif kind == 'message' then
            for reader in string.gmatch(readers, '%S+') do
                post(reader, id, data)
            end
        end
        if mark ~= '' then
            redis.call('HSET', p..'said:'..who, mark, id..' '..via)
            redis.call('EXPIRE', p..'said:'..who, attempt_seconds)
            if redis.call('HLEN', p..'said:'..who) > attempts then
                redis.call('RENAME', p..'said:'..who, p..'was:'..who)
            end
        end
        answers[#answers+1] = ''
    end
    if number > last then last = number end
end
redis.call('SET', p..'sent:'..run, string.format('%.0f', last), 'EX', 86400)
if redis.call('XLEN', p..'kept') < length then
    redis.call('SET', p..'from', redis.call('XRANGE', p..'kept', '-', '+', 'COUNT', 1)[1][1])
end
return answers
"""
)
"""Append entries, unless they have been. For each the place of its first attempt, or nothing.

Nothing is appended by a node whose lease has ended: its people's names may be others' by now; and
nothing behind an id that has no place, such as others may write, for what follows has none either.
"""

SYNC: Final = (
    _NOW
    + _IS_PLACE
    + """
local p, fresh, known, position = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local function parts(id)
    local at, number = string.match(id, '^(%d+)-(%d+)$')
    return tonumber(at), tonumber(number)
end
local function before(one, other)
    local a, m = parts(one)
    local b, n = parts(other)
    return a < b or (a == b and m < n)
end
local function ends(key)
    local first, last = '0-0', '0-0'
    if redis.call('EXISTS', key) == 1 then
        local info = redis.call('XINFO', 'STREAM', key)
        for i = 1, #info, 2 do
            if info[i] == 'last-generated-id' then last = info[i+1] end
            if info[i] == 'first-entry' and info[i+1] then first = info[i+1][1] end
        end
    end
    return first, last
end
local function end_in_a_place(key)
    -- Ids only grow, so nothing that follows one without a place would have one.
    local _, last = ends(key)
    if is_place(last) then return 0 end
    local removed = 0
    repeat
        last = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
        if not last then
            redis.call('DEL', key)
        elseif not is_place(last[1]) then
            removed = removed + redis.call('XDEL', key, last[1])
        else
            local length = redis.call('XLEN', key)
            local all = {'XSETID', key, last[1], 'ENTRIESADDED', length, 'MAXDELETEDID', '0-0'}
            if redis.pcall(unpack(all)).err then  -- Redis 6 knows the first two only
                redis.call('XSETID', key, last[1])
            end
        end
    until not last or is_place(last[1])
    return removed
end
local removed = end_in_a_place(p..'log') + end_in_a_place(p..'kept')
if redis.call('SET', p..'epoch', fresh, 'NX') then
    -- What somebody has put here in advance, such as an export, is not gone.
    local from = redis.call('EXISTS', p..'kept') == 1 and 0 or now()
    redis.call('SET', p..'from', string.format('%.0f-0', from))
end
local epoch, state = redis.call('GET', p..'epoch'), 'whole'
local first, last = ends(p..'log')
if position ~= '0-0' and #redis.call('XRANGE', p..'log', position, position) == 0 then
    state = 'lost'
    if epoch == known and before(position, first) then state = 'trimmed' end
end
if known ~= '' and epoch ~= known then state = 'lost' end
if state == 'lost' and not before(position, redis.call('GET', p..'mark') or '0-0') then
    -- The next place must be after all that anybody knows of, whatever the clock says.
    local at, number = parts(before(last, position) and position or last)
    local mark = string.format('%.0f-%.0f', at, number + 1)
    redis.call('XADD', p..'log', mark, 'n', '', 's', 0, 'k', 'gap', 'd', '')
    redis.call('SET', p..'mark', mark)
    if epoch == known then
        redis.call('XADD', p..'kept', mark, 'g', '')
    elseif before(redis.call('GET', p..'from') or '0-0', mark) then
        redis.call('SET', p..'from', mark)
    end
    first, last = ends(p..'log')
end
return {epoch, state, first, last, redis.call('HVALS', p..'people'), removed}
"""
)
"""Say which log this is, whether what follows a node's place is all there, and who is here; and how
much was removed because there is no place for its id.

``whole``, or ``trimmed``: the bus goes on after the place, but not right after it; or ``lost``:
Redis does not have what the node has read, so it has lost something. Then a mark is put on the bus
and into the history, for everybody to see.
"""

_HOLDER: Final = """
local function holder_of(text)
    local good, holder = pcall(cjson.decode, text)
    if not good or type(holder) ~= 'table' then return nil end
    for _, word in ipairs({'name', 'identity', 'proof', 'node'}) do
        if type(holder[word]) ~= 'string' then return nil end
    end
    return holder
end
"""
"""Read one of the people. Others may write here, too: what makes no sense is nobody."""

_BURY: Final = (
    _HOLDER
    + """
local function bury(p, node)
    local people = redis.call('HGETALL', p..'people')
    for i = 1, #people, 2 do
        local holder = holder_of(people[i+1])
        if holder and holder.node == node then
            redis.call('HDEL', p..'people', people[i])
            local data = cjson.encode({holder.name, 'all', 'left', {}, holder.identity})
            redis.call('XADD', p..'log', 'MAXLEN', '~', 100000, '*',
                       'n', '', 's', 0, 'k', 'presence', 'd', data)
        end
    end
    redis.call('SREM', p..'nodes', node)
end
"""
)

RENEW: Final = (
    _BURY
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

LEAVE: Final = (
    _HOLDER
    + """
local p, node = KEYS[1], ARGV[1]
for _, text in ipairs(redis.call('HVALS', p..'people')) do
    local holder = holder_of(text)
    if holder and holder.node == node then return 0 end
end
redis.call('DEL', p..'node:'..node)
return redis.call('SREM', p..'nodes', node)
"""
)
"""End a node's lease, if nobody is left. Who is left may come to another node until it ends."""

CLAIM: Final = (
    _BURY
    + """
local p, node, key, holder, proof = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if redis.call('EXISTS', p..'node:'..node) == 0 then return {'no-lease', '0-0'} end
local held, outcome, place = redis.call('HGET', p..'people', key), 'new', '0-0'
holder = cjson.decode(holder)
held = held and holder_of(held)
if held then
    if redis.call('EXISTS', p..'node:'..held.node) == 0 then
        bury(p, held.node)
    elseif held.proof ~= proof then
        return {'taken', '0-0'}
    else
        holder.name = held.name
        holder.known = held.known
        if held.node ~= node then
            outcome = 'moved'
            holder.known = true
            place = redis.call('XADD', p..'log', 'MAXLEN', '~', 100000, '*',
                               'n', '', 's', 0, 'k', 'moved',
                               'd', cjson.encode({held.name, 'all', node, {}, held.identity}))
        end
    end
end
if place == '0-0' and redis.call('EXISTS', p..'log') == 1 then
    local info = redis.call('XINFO', 'STREAM', p..'log')
    for i = 1, #info, 2 do
        if info[i] == 'last-generated-id' then place = info[i+1] end
    end
end
redis.call('HSET', p..'people', key, cjson.encode(holder))
return {outcome, place}
"""
)
"""Give a name to a node's person: new, moved (from another node), taken or no-lease.

And say since which place: what the bus says of this name up to there is about an earlier claim.
"""

RELEASE: Final = (
    _HOLDER
    + """
local p, node, key, proof, unsaid = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local held = redis.call('HGET', p..'people', key)
held = held and holder_of(held)
if not held or held.node ~= node or held.proof ~= proof then return 0 end
redis.call('HDEL', p..'people', key)
local kind, text = 'gone', ''
if unsaid == '1' and held.known then kind, text = 'presence', 'left' end
redis.call('XADD', p..'log', 'MAXLEN', '~', 100000, '*', 'n', '', 's', 0, 'k', kind,
           'd', cjson.encode({held.name, 'all', text, {}, held.identity}))
return 1
"""
)
"""Make a name free, if it is this node's and this person's.

If nobody could be told that this person leaves (``unsaid``), those who know of them are.
"""

FORGET: Final = (
    _NOW
    + """
local p, seconds, bytes = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
local kept = p..'kept'
local function begins(place) redis.call('SET', p..'from', place) end
if seconds > 0 then
    local since = now() - seconds * 1000
    local oldest = string.format('%.0f-0', since)
    local old = redis.call('XREVRANGE', kept, '('..oldest, '-', 'COUNT', 1)[1]
    if old and redis.call('XTRIM', kept, 'MINID', '~', oldest, 'LIMIT', 20000) > 0 then
        local first = redis.call('XRANGE', kept, '-', '+', 'COUNT', 1)[1]
        if first and tonumber(string.match(first[1], '%d+')) < since then
            begins(first[1])
        else
            local at, number = string.match(old[1], '^(%d+)-(%d+)$')
            begins(at..'-'..string.format('%.0f', number + 1))
        end
    end
end
if bytes > 0 then
    local size = redis.call('MEMORY', 'USAGE', kept) or 0
    if size > bytes then
        local length = redis.call('XLEN', kept)
        local most = string.format('%.0f', math.floor(length * bytes / size))
        if redis.call('XTRIM', kept, 'MAXLEN', '~', most, 'LIMIT', 50000) > 0 then
            local first = redis.call('XRANGE', kept, '-', '+', 'COUNT', 1)[1]
            begins(first and first[1] or string.format('%.0f-0', now()))
        end
    end
end
"""
)
"""Remove the oldest messages that are older than some seconds, or more than some bytes: a step."""

HASHES: Final = {
    script: hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
    for script in (APPEND, CLAIM, FORGET, LEAVE, RELEASE, RENEW)
}
"""What Redis calls the scripts that it has been given. All but SYNC, the first thing ever run."""
