"""The desktop client: a window for the same session that the console drives.

Three layers, each of which knows only the ones before it:

- `shown` and `downloads`: what the window shows, as plain values; `model`: what its buttons do. No
  widget, no reactor; the tests drive them alone.
- The widgets: `window`, which puts together `login`, `room` and their parts. They draw what the
  model says and pass on what a person does, and decide nothing. Only they import tkinter.
- `app` and `hosting`: the reactor. They connect, bring connections back, and run a server for the
  person who hosts.
"""
