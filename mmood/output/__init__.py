"""What mmood shows: lines, tables and progress on any console, and names from elsewhere made safe for each medium."""
