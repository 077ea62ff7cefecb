"""Fine-tuning on a selection, here or with another trainer."""
