"""Classes and objects: those of a data set, of annotation files, and the model's own."""
