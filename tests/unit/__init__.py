"""One module at a time, with nothing behind it."""
