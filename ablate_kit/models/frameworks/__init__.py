"""One file per framework whose detectors can be opened, and what only that framework needs."""
