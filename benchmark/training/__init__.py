"""From a spec to a trained codec."""
