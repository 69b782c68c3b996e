"""What a domain brings to a run."""
