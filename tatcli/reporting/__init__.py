"""What a run leaves for people to read: run reports and figures."""
