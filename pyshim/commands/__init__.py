"""The commands that run loops, one a module: each defines `command`."""
