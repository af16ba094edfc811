"""What a user asks for, one module each: a config in, a report out. They never print or exit."""
