"""What running a detector costs: parameters, FLOPs, latency, memory, and the file it is in."""
