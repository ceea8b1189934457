"""The shards of a folder: find, lock and read them, compose them into one file, delete or move them."""
