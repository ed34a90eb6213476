"""From a checkpoint to an adapter: which framework it is of, made runnable, opened."""
