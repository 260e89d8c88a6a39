"""Trainer process: one hold on remote environments, which survives its carriers."""
