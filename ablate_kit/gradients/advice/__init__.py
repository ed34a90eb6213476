"""What a finding probably means and what to try, in plain sentences with their numbers."""
