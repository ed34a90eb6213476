"""The ablations and the result files of the published Deep Dissect tool."""
