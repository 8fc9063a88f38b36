"""A chat room with a file shelf: lines over TCP to talk, a UDP protocol of its own to download."""

__version__ = "0.1.0"
