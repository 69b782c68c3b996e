"""What happens in one run: spec, training, bitstreams, evaluation, commands."""
