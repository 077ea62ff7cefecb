"""Warmup training and the checkpoints it leaves."""
