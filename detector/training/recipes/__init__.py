"""The YAML files that runs are made from."""
