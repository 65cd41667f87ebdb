"""What the TrainingJob resource is called in Kubernetes. Pure."""

GROUP = "taas.dev"
VERSION = "v1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "TrainingJob"
PLURAL = "trainingjobs"
