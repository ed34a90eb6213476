"""Where the numbers of a run go besides its folder: one file per logger."""
