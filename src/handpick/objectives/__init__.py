"""From logits to one loss an example."""
