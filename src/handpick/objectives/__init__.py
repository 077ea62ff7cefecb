"""From a record to a weighted sum of negative log-likelihoods: what a row of features is the gradient of."""
