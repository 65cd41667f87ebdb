"""The ring by itself, without TensorFlow."""
