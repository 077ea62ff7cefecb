"""One HTML file of a selection, a study or published numbers, with every plot also as PNG and CSV beside it."""
