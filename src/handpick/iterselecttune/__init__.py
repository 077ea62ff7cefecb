"""IterSelectTune: the hard examples of a pool, by a judge, a classifier and likeness (arXiv 2410.13464)."""
