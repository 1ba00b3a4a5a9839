"""Pure functions: intent to desired kernel objects, compared with what is, to operations."""
