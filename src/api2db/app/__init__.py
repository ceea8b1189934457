"""The programs that a user starts: a run of collectors, the command line, the demo."""
