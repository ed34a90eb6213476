"""Values to tables, figures and pages."""
