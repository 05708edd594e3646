"""What is declared to be served, and where that is kept."""
