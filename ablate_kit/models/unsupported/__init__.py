"""Files that nothing here runs: of other detectors, of parts of a file, of packed numbers."""
