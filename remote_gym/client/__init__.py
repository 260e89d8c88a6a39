"""Trainer process: the client. Imports no server and no workers."""
