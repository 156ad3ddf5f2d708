"""One command a module: each defines `command`, and `cli` registers it."""
