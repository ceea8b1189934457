"""Files on disk that are whole or not there at all, the project's folders, and fsync."""
