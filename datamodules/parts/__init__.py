"""What corpora are made of."""
