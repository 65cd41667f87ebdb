"""What those who mean harm do: programs for a worker to run, and calls that nobody should take."""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace

import grpc

import taas
from protos.taas.v1 import (
    job_pb2,
    training_service_pb2,
    training_service_pb2_grpc,
    worker_service_pb2,
    worker_service_pb2_grpc,
)
from taas.access import Access
from tests.cluster.team import Manifest, Team

# Only keeps a broken test from hanging.
_BOUND_S = 60.0

# Every process forks, and so does every child, for as long as the kernel lets them.
FORK_ON = """
import os, time
while True:
    try:
        os.fork()
    except OSError:
        time.sleep(1)
"""
# Children that do nothing but be there, until the first one too many.
FORK_AND_FALL = """
import os, time
while True:
    if os.fork() == 0:
        time.sleep(1000000)
"""
# Writes to a file of the name given until the disk, or somebody, puts an end to it.
FILL = """
import sys, time
with open(sys.argv[1], "wb") as file:
    for _ in range(int(sys.argv[2])):
        file.write(bytes(1 << 20))
        file.flush()
time.sleep(1000000)
"""
# The agent is process 1: what the kernel keeps from it, and then what it obeys.
KILL_THE_AGENT = """
import os, signal, time
for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV):
    os.kill(1, number)
print("the agent lives", flush=True)
os.kill(1, signal.SIGTERM)
time.sleep(1000000)
"""
# Asks the API server with the only token that the pod has, and looks for another one.
ASK_THE_API_SERVER = """
import os, ssl, urllib.error, urllib.request
print(os.path.exists("/var/run/secrets/kubernetes.io/serviceaccount"))
token = open("/taas/token/token").read()
host = os.environ.get("KUBERNETES_SERVICE_HOST", "10.96.0.1")
request = urllib.request.Request(
    f"https://{host}/api/v1/namespaces/default/pods", headers={"Authorization": f"Bearer {token}"}
)
try:
    urllib.request.urlopen(request, context=ssl._create_unverified_context(), timeout=30)
except urllib.error.HTTPError as error:
    print(error.code)
"""
READ_TOKEN = "print(open('/taas/token/token').read())"


def python(name: str, program: str, *arguments: str, **spec: object) -> Manifest:
    """A job of one worker whose command is a Python program."""
    words = ["python3", "-c", program, *arguments]
    return {
        "apiVersion": "taas.dev/v1",
        "kind": "TrainingJob",
        "metadata": {"name": name},
        "spec": {"command": {"words": words}, "workers": 1, **spec},
    }


def said(team: Team, name: str) -> str:
    """What the workers of a job have printed so far."""
    return "".join(piece.text for piece in team.client.logs(name))


def channel(target: str) -> grpc.Channel:
    """A channel to the service that shows nobody's token."""
    access = replace(Access.of(os.environ), token_file=None, token="")
    return access.channel(target, [("grpc.use_local_subchannel_pool", 1)])


def connect(team: Team, token: str, hello: worker_service_pb2.Hello) -> grpc.StatusCode | None:
    """How the service ends the stream of a worker that says this hello; None if it is taken in."""
    with channel(team.service.workers_target) as open_channel:
        stub = worker_service_pb2_grpc.WorkerServiceStub(open_channel)
        orders = stub.Connect(
            _only(hello),
            metadata=(("authorization", f"Bearer {token}"),),
            timeout=_BOUND_S,
        )
        try:
            for _ in orders:
                return None
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            return code
        finally:
            orders.cancel()
    return grpc.StatusCode.OK


def _only(
    hello: worker_service_pb2.Hello,
) -> Iterator[worker_service_pb2.ConnectRequest]:
    yield worker_service_pb2.ConnectRequest(hello=hello)


def hello_of(pod: Manifest) -> worker_service_pb2.Hello:
    """What the agent of a pod says of itself."""
    (container,) = pod["spec"]["containers"]
    env = {variable["name"]: variable.get("value", "") for variable in container["env"]}
    return worker_service_pb2.Hello(
        namespace=env["TAAS_NAMESPACE"],
        job=env["TAAS_JOB"],
        job_uid=env["TAAS_JOB_UID"],
        index=int(env["TAAS_WORKER_INDEX"]),
        pod_uid=pod["metadata"]["uid"],
        address=f"{pod['status']['podIP']}:1",
    )


def upload(team: Team, archive: bytes) -> job_pb2.Source:
    """Bring an archive that `taas` would never make."""
    digest = hashlib.sha256(archive).hexdigest()
    source = job_pb2.Source(digest=digest, size_bytes=len(archive))
    header = training_service_pb2.UploadSourceHeader(
        parent=f"namespaces/{team.namespace}", source=source
    )
    request = training_service_pb2.UploadSourceRequest(header=header, data=archive)
    access = Access.of(os.environ)
    with access.channel(team.service.target, []) as open_channel:
        stub = training_service_pb2_grpc.TrainingServiceStub(open_channel)
        taken: job_pb2.Source = stub.UploadSource(iter([request]), timeout=_BOUND_S)
    return taken


def client_with(team: Team, token: str) -> taas.Client:
    """A client that shows this token, and nothing of what the other tests show."""
    access = replace(Access.of(os.environ), token_file=None, token=token)
    return taas.Client(team.service.target, team.namespace, access=access, retry_for_s=60)


def packed(tar: bytes) -> bytes:
    """The archive of a source."""
    return gzip.compress(tar, mtime=0)
