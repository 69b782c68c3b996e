"""Items scored in worker processes."""
