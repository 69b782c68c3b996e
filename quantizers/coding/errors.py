"""What is wrong with coded data."""


class BitstreamError(ValueError):
    """A bitstream that cannot be decoded, or a file of one that cannot be read or written."""
