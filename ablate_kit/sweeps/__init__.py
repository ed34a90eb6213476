"""Many variants of one model in one pass over the data, kept on disk as they are done."""
