"""What several parts share, and what is there for speed."""
