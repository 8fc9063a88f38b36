"""Tk's dialog for choosing a file or a folder, as a program of its own.

Such a dialog waits inside Tk until it is closed. In the window's own process the reactor would
stand still meanwhile, and with it the chat and the downloads.

    python -m chatbox.client.gui.choose save|folder PATH

prints the path that was chosen, nothing if none was.
"""

from __future__ import annotations

import os
import sys
import tkinter as tk
from tkinter import filedialog


def main() -> None:
    """Ask, and print the answer."""
    kind, path = sys.argv[1:]
    root = tk.Tk(className="Chatbox")
    root.withdraw()
    if kind == "save":
        folder, name = os.path.split(os.path.expanduser(path))
        # Whether there is such a file already is said by the download.
        chosen = filedialog.asksaveasfilename(
            parent=root,
            title="Save as",
            initialdir=folder or None,
            initialfile=name,
            confirmoverwrite=False,
        )
    else:
        chosen = filedialog.askdirectory(
            parent=root, title="Shared folder", initialdir=path or None, mustexist=True
        )
    sys.stdout.buffer.write(os.fsencode(chosen or ""))


if __name__ == "__main__":
    main()
