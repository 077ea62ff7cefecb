"""From examples to feature vectors."""
