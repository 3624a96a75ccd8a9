"""Layers that several parts share, and those that exist for speed."""
