"""Training losses, each with its paper's equation numbers."""
