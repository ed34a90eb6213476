"""Pickles read as data: nothing that a pickle names is imported, constructed or called."""
