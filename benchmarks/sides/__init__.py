"""Programs that train on this machine, each as one side of a comparison."""

# Kinds of a side's processes. Those of the first two belong to a worker; whatever else there is
# (a controller, Ray's daemons) serves all of them.
TRAINERS = "trainers"
AGENTS = "agents"
OF_A_WORKER = (TRAINERS, AGENTS)


class SideFailed(Exception):
    """A side did not come up, or ended before its time; the text says why."""
