"""From a batch of sequences to what each token weighs in the loss."""
