"""A detector with its knobs turned: decoder depth, number of queries, input size."""
