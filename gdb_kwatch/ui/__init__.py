"""What the user types and reads: commands, parameters, tables, reports."""
