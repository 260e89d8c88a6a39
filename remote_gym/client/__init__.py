"""Trainer process: the client. Imports no server, no pool and no worker."""
