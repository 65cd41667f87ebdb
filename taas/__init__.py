"""What users install: the Python client and the command line."""
