"""Everything that is wrong with a data set, counted."""
