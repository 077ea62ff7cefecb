"""The functions that ``import handpick`` offers: from Python values to a run of the library, and nothing more."""
