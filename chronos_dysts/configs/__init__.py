"""The configuration files: one for each command, every key with a comment that says what it is."""
