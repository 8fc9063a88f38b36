"""The desktop client: a window for the same session that the console drives.

Three layers, each of which knows only the ones before it:

- `model` (with `downloads` and `palette`): what the window shows and what its buttons do, as plain
  values. No widget, no reactor; the tests drive it alone.
- The widgets: `window`, which puts together `login`, `room` and their parts. They draw what the
  model says and pass on what a person does, and decide nothing. Only they import tkinter.
- `app` and `hosting`: the reactor. They connect, bring connections back, and run a server for the
  person who hosts.
"""
