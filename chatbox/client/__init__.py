"""The client: what people and scripts talk to a server with.

The rooms, from the bottom up. An import only ever goes down, so that each can be read, and used,
without those after it (`tests/test_layout.py` has the order):

- `chat`: what is said to a server and heard from it, without I/O;
- `connect`: which server, whether it may be trusted, and the connection that is in its room;
- `files`: a download, from the request to the file on the disk;
- `terminal`: the line that a person types and what stands above it, as bytes;
- `console`, `gui` and `errands`: what a person has before them, which is a terminal or a pipe, a
  window, or a command that does one thing and ends;
- `doctor`: what is wrong with the way to a server.

Beside them is what several of them share: how a command ends (`exits`), what it is handed to read
and write (`streams`), what is settled (`config`), what a person can have done (`actions`), types
(`commands`) and reads (`words`), how wide that is (`width`), and the `conversation` that the
console and the window both have. The programs are `main`, whose command line is in `arguments`, and
`demo`.
"""
