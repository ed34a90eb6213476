"""What is known of models by the names in their checkpoints: where parts are, how many heads.

All tables are here: a framework that names its parts otherwise is an entry, and the kinds of
ablations know no model by name.
"""
