"""``chatbox doctor``: what is wrong with the way to a server, and what to do about it.

`examination` measures, with `offload` for what concerns this machine alone; `diagnosis` judges what
was measured, in words, and can be read and tested without any network.
"""
