"""How fast things are; imported by nobody."""
