"""The report of a sweep: tables, figures, photographs, and one page that holds them."""
