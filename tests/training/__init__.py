"""Real trainer processes, real MultiWorkerMirroredStrategy."""
