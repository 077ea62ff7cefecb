"""Real chat templates of many model families, and by hand which characters of their training text are learnt."""
