"""Trainer process: what brings a session's frames there and back."""
