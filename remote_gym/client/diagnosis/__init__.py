"""Trainer process: which step of a connection fails, and what to do about it."""
