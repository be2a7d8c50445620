"""What a run looks like to a reader: tables for the terminal and for files."""
