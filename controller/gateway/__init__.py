"""The storage gateway: the server in a tenant's pod, and the controller's way to reach it."""
