"""Exact per-example gradients of LoRA parameters, preconditioned and projected.

Needs torch, numpy, transformers and peft alone.
"""
