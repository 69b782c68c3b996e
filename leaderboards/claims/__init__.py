"""Claims of papers and what records say of them."""
