"""The API over real gRPC; below it a fake store, a fake cluster and real files."""
