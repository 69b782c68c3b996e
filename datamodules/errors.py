"""What is wrong with data."""


class DataError(ValueError):
    """Unusable data: one clear line for the user."""
