"""Text input: readers of files, the registry of corpora, the embedded grammar, and the token store."""
