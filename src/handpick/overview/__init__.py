"""What is in a pool, before anything is chosen from it: counted over all records, and estimated on a sample."""
