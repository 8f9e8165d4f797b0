"""A study on a Ray cluster: the bits of this machine's, also when a node dies in the middle."""

import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from experiments.runs.command_line.checks import UsageError
from experiments.sweep.running import ray_address
from experiments.sweep.running.engines import ray_cluster
from experiments.sweep.running.ray_address import check_address, cluster_address

ROOT = Path(__file__).parents[4]

PROGRAM = """
import os, sys
import numpy as np
from dataclasses import replace
import ray
from experiments.evaluate_policy.settings.evaluation_settings import EvaluationSettings
from ray.cluster_utils import Cluster
from experiments.sweep.running.engines import here, ray_cluster
from experiments.sweep.running.shard import Shard

settings = EvaluationSettings(problem="boyan", rule=("td",), runs=2, steps=400, measure_every=50)
shards = [
    Shard(f"s{n}", replace(settings, width=3 + n), [(0.01, 0.02, 0.02)], 1, False, False)
    for n in range(6)
]
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
second = cluster.add_node(num_cpus=1)
cluster.wait_for_nodes()
found = {}
for shard, results in ray_cluster(cluster.address)(shards, lambda done: None):
    if not found:
        cluster.remove_node(second, allow_graceful=False)
    found[shard.name] = results
expected = {shard.name: results for shard, results in here(shards, lambda done: None)}
assert found.keys() == expected.keys()
for name, results in expected.items():
    for key, array in results.items():
        np.testing.assert_array_equal(found[name][key], array, strict=True)
print("same bits after the loss of a node")
"""


@pytest.mark.slow
def test_a_node_that_dies_costs_its_shards_a_retry_and_no_bit(tmp_path):
    pytest.importorskip("ray")
    program = tmp_path / "cluster.py"
    program.write_text(PROGRAM)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        # Ray gives its workers what other programs leave over.
        "RAY_worker_niceness": "0",
    }
    done = subprocess.run(
        [sys.executable, str(program)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "same bits after the loss of a node" in done.stdout


def test_an_address_where_nobody_listens_is_one_line_within_seconds():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    begun = time.monotonic()
    with pytest.raises(UsageError, match=f"--address 127.0.0.1:{port} cannot be reached"):
        check_address(f"127.0.0.1:{port}")
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("address", ["nowhere", "host:", "host:port", ":6379", "host:99999"])
def test_an_address_is_host_and_port(address):
    with pytest.raises(UsageError, match="is not of the form HOST:PORT"):
        check_address(address)


class _AnyRequest:
    """Answers the calls of some names with nothing, as a server of Ray does."""

    def __init__(self, grpc, *names):
        self.names = names
        self.handler = grpc.unary_unary_rpc_method_handler(lambda request, context: b"")

    def service(self, call):
        return self.handler if call.method in self.names else None


@pytest.fixture
def server():
    """Start servers of gRPC that know calls of some names; return their addresses."""
    grpc = pytest.importorskip("grpc", reason="the extra distributed is not installed")
    started = []

    def start(*names):
        one = grpc.server(ThreadPoolExecutor(1), handlers=(_AnyRequest(grpc, *names),))
        port = one.add_insecure_port("127.0.0.1:0")
        one.start()
        started.append(one)
        return f"127.0.0.1:{port}"

    yield start
    for one in started:
        one.stop(None)


def test_the_environments_address_is_one_like_that_of_the_flag(monkeypatch, server):
    address = server("/ray.rpc.NodeInfoGcsService/CheckAlive")
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert cluster_address(None) == address
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    # The flag has priority.
    assert cluster_address(address) == address
    with pytest.raises(UsageError, match=r"RAY_ADDRESS 127\.0\.0\.1:1 cannot be reached"):
        cluster_address(None)
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "somewhere")
    with pytest.raises(UsageError, match="RAY_ADDRESS 'somewhere' is not of the form HOST:PORT"):
        ray_cluster(None)
    for own in ("", "local"):
        monkeypatch.setenv("RAY_ADDRESS", own)
        assert cluster_address(None) is None


def test_what_listens_and_is_no_ray_cluster_is_refused(monkeypatch, server):
    other = server("/another.Service/Call")
    with pytest.raises(UsageError, match=f"--address {other} is no Ray cluster that answers"):
        cluster_address(other)
    monkeypatch.setattr(ray_address, "PATIENCE", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(UsageError, match=f"--address {address} is no Ray cluster"):
            cluster_address(address)
    pytest.importorskip("ray")
    address = "ray://" + server("/ray.rpc.RayletDriver/ClusterInfo")
    assert cluster_address(address) == address
    with pytest.raises(UsageError, match="is no Ray cluster that answers"):
        cluster_address(f"ray://{other}")


def test_auto_is_the_address_that_ray_finds(monkeypatch, server):
    services = pytest.importorskip("ray._private.services", reason="Ray is not installed")
    found = server()
    monkeypatch.setattr(services, "canonicalize_bootstrap_address", lambda given: found)
    with pytest.raises(UsageError, match=f"--address auto: {found} is no Ray cluster"):
        cluster_address("auto")
    monkeypatch.setattr(services, "canonicalize_bootstrap_address", lambda given: None)
    with pytest.raises(UsageError, match="--address auto: no Ray cluster runs on this machine"):
        cluster_address("auto")


def test_without_ray_the_line_that_installs_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install '.\[distributed\]'"):
        ray_cluster(None)
