"""Workers, and where they run: in this process, one process per device, or on Ray."""
