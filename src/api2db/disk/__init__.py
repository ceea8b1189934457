"""Atomic files, fsync, and the names of the project's folders."""
