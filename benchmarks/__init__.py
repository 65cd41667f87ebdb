"""Side-by-side runs that say what the service costs."""
