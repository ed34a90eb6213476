"""From what an ablation zeroes to a checkpoint that is smaller: parts that are gone, not zero."""
