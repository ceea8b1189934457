"""The programs that a user starts: a run of collectors, and the command line."""
