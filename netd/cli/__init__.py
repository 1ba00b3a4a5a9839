"""netctl, the command line."""
