"""Methods × targets × budgets × seeds: the grid, its steps, its results and their statistics."""
