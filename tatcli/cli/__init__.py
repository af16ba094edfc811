"""The command line: each command parses its options, calls one workflow, and shows its report."""
