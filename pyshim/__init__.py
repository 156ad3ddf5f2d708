"""The thin Python driver of Tidegate: renders and migrates the SQL, and runs loops that call it."""

__version__ = "0.1.0"
