"""Models of hearing that metrics and losses rest on."""
