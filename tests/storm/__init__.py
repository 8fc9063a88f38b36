"""A whole chat in virtual time, with clients that do what they like, and a model beside it.

One seed decides everything: who comes and under which name, what each asks and in which pieces it
arrives, who stops reading, who is cut off in the middle of a line, how long the log takes and when
it refuses. What must hold whatever comes is what ``docs/protocol.rst`` promises, told again by a
model that knows nothing of the server: see `model`.

`world` is that; `client` has a client of ours, and a server that is slow, odd and gone at times.
`tests.test_storm` runs some seeds. This package as a program runs as many as one likes::

    python -m tests.storm 1 10000

A seed that fails is printed, and does the same again.
"""
