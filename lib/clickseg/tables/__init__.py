"""The tables of the publication, made again: one recipe, changed row by row, with a few seeds."""
