"""Answers drawn from a model, many prompts at a time; a file for each way of drawing."""
