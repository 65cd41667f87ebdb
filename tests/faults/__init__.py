"""Every fault at every moment of a training, on either backend, and many at random."""
