"""The kinds of ablation, one file each; a new kind is one file and a line in ``kind_registry``."""
