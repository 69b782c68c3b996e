"""How fast things are against what else there is; loaded by `benchmark speed` alone."""
