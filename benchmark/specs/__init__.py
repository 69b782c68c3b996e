"""What a run is, from names and options."""
