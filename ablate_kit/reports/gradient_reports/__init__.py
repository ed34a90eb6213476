"""The report of a gradient diagnosis: text, figures, a folder and a page."""
