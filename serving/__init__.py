"""Answers questions with SavedModels, as TensorFlow Serving does: over gRPC and over HTTP."""
