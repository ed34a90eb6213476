"""Which differences of metrics are more than chance: resamples, intervals, tests, verdicts."""
