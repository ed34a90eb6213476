"""Studies that train the detector anew for every arm."""
