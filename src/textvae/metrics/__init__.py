"""Measures: pure functions of tensors and strings, which open no file and print nothing."""
