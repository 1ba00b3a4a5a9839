"""Keys, sessions and locks as a state machine: commands and time in, results and changes out."""
