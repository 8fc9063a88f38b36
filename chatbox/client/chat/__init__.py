"""The client's side of the chat: what is said to a server and heard from it.

Nothing in this room does I/O or knows a clock. `session` is the way in: whoever has a connection
feeds it bytes, takes `events` from it, and asks by calling its methods. `states` says what may be
asked when, `answers` makes events of a server's lines, `inorder` keeps what is said now apart from
history, `pages` puts history together, and `lines` cuts a stream.
"""
