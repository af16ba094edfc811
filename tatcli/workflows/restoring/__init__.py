"""The two ways to restore a scan: plane by plane while it is read and written, or as a whole."""
