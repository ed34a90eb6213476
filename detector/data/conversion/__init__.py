"""From one format of annotations to another."""
