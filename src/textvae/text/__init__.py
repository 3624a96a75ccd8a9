"""Text in: readers of files, the corpora known by name, the embedded grammar, and the token store."""
