"""The contract of quantizers, executable."""
