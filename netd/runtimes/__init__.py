"""What container runtimes speak: each of their protocols ends in a package of its own."""
