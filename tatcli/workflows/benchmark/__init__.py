"""Benchmarks: how fast the network restores on this machine, and what a whole volume costs."""
