"""From a trained codec to a record."""
