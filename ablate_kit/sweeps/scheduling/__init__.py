"""What runs next, on which worker, and when a variant counts as finished."""
