"""The console, for ``chatbox join``: standard input and output as a place to talk.

`join` makes what fits: `console` for pipes and files, or `live`, which brings
`chatbox.client.terminal` to a real terminal. `folders` completes where to save to.
"""
