"""Things that several test modules use."""
