"""What quantizers are made of."""
