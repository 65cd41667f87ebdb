"""The backend on Kubernetes. Only this package knows the Kubernetes client."""
