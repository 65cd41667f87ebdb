"""Runs the controller on Kubernetes: the API server is the store, pods are the workers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from controller.config import KubernetesConfig
from controller.gateway.pods import GatewaySettings
from controller.gateway.pool import GatewayPool
from controller.gateway.storage import GatewayStorage
from controller.kubernetes.access import KubernetesAccess
from controller.kubernetes.certificates import ServerCertificate, service_names
from controller.kubernetes.client import Api, connected
from controller.kubernetes.cluster import KubernetesCluster
from controller.kubernetes.gateways import KubernetesGatewayPods
from controller.kubernetes.leader import Candidate, leading
from controller.kubernetes.recorder import Recorder
from controller.kubernetes.store import KubernetesStore
from controller.render import PodSettings, kubernetes_settings
from controller.server import Listener, serving, utc_now
from protos import __version__
from protos.taas.v1 import training_service_pb2

# The Service of deploy/base.
SERVICE = "taas"


async def run(config: KubernetesConfig) -> None:
    """Wait to lead, then serve until cancelled. Raises LeadershipLost: another may lead by now,
    so the process has to end."""
    async with _alive(config.health), connected(config.kubeconfig) as api:
        me = Candidate(config.namespace, config.pod)
        async with leading(api, me) as leadership, _served(config, api):
            await leadership.announce()
            await asyncio.get_running_loop().create_future()


@asynccontextmanager
async def _served(config: KubernetesConfig, api: Api) -> AsyncIterator[None]:
    limits = config.limits
    info = training_service_pb2.ServiceInfo(
        version=__version__,
        backend="kubernetes",
        max_source_bytes=limits.max_source_bytes,
        max_workers=limits.max_workers,
    )
    gateway_pods = KubernetesGatewayPods(api, GatewaySettings(config.controller_image))
    pool = GatewayPool(gateway_pods)
    storage = GatewayStorage(pool)
    certificate = ServerCertificate(
        api,
        config.namespace,
        config.tls_secret,
        names=service_names(SERVICE, config.namespace, config.server_names),
        clock=utc_now,
    )

    def settings() -> PodSettings:
        return kubernetes_settings(
            config.worker_target, config.trainer_image, certificate.authority
        )

    async with Recorder(api, instance=config.pod) as recorder, certificate:
        store = KubernetesStore(api, recorder)
        cluster = KubernetesCluster(api, recorder)
        async with (
            store,
            cluster,
            gateway_pods,
            pool,
            serving(
                Listener(config.listen, certificate.shown.credentials()),
                Listener(config.listen_workers, certificate.shown.credentials()),
                store,
                cluster,
                storage,
                access=KubernetesAccess(api, config.audiences),
                pods=settings,
                info=info,
                limits=limits,
                metrics_address=config.metrics,
            ),
        ):
            yield


@asynccontextmanager
async def _alive(address: str) -> AsyncIterator[None]:
    """Answer the probes for the process, whether it leads or waits to."""
    server = grpc.aio.server()
    healthy = health.aio.HealthServicer()  # type: ignore[attr-defined]
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    await healthy.set("", health_pb2.HealthCheckResponse.SERVING)
    server.add_insecure_port(address)
    await server.start()
    try:
        yield
    finally:
        await server.stop(None)
