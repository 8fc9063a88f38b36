"""Commands that do one thing and end, for scripts.

`oneshots` has ``who``, ``files``, ``say`` and ``history``, and the `Visit` to a room that each of
them is; `get` downloads on such a visit. `passwd` edits a file of accounts and needs no server.
Results go to standard output, all else to standard error, and the exit status says how it went.
"""
