"""The address of a Ray cluster, checked within seconds: Ray itself tries for minutes."""

import importlib
import os
import socket
from typing import Any

from experiments.runs.command_line.checks import UsageError

# Seconds to wait for a connection, and for an answer.
PATIENCE = 3.0
# Where Ray itself looks for an address.
OF_RAY = "RAY_ADDRESS"
CLIENT = "ray://"
_ADVICE = "is the cluster up ('ray status')?"
# Calls without an effect, which the two servers of a cluster answer.
_OF_CLUSTER = "/ray.rpc.NodeInfoGcsService/CheckAlive"
_OF_CLIENT = "/ray.rpc.RayletDriver/ClusterInfo"


def check_address(address: str, flag: str = "--address") -> None:
    """Raise UsageError within seconds if no server listens at HOST:PORT.

    flag: by which the address was given
    """
    host, colon, port = address.removeprefix(CLIENT).rpartition(":")
    if not colon or not port.isdecimal() or not host or int(port) > 65535:
        raise UsageError(f"{flag} {address!r} is not of the form HOST:PORT or ray://HOST:PORT")
    try:
        with socket.create_connection((host, int(port)), PATIENCE):
            return
    except OSError as error:
        said = error.strerror or str(error) or type(error).__name__
        raise UsageError(f"{flag} {address} cannot be reached: {said}; {_ADVICE}") from None


def cluster_address(address: str | None) -> str | None:
    """Return the address of a Ray cluster, checked: the given one, or that of RAY_ADDRESS.

    None for a cluster of one's own. Raises UsageError in one line if no cluster answers.
    """
    flag = "--address"
    if address is None:
        flag, address = OF_RAY, os.environ.get(OF_RAY) or None
        if address == "local":
            return None
    if address is None:
        return None
    if address == "auto":
        flag, address = f"{flag} auto:", _found_by_ray(flag)
    check_address(address, flag)
    _check_answer(address, flag)
    return address


def _found_by_ray(flag: str) -> str:
    """Return the address of the cluster of this machine, as `auto` means it."""
    from ray._private.services import canonicalize_bootstrap_address

    try:
        found = canonicalize_bootstrap_address("auto")
    except ConnectionError:
        found = None
    if found is None:
        raise UsageError(f"{flag} auto: no Ray cluster runs on this machine; {_ADVICE}")
    return str(found)


def _check_answer(address: str, flag: str) -> None:
    """Raise UsageError where what listens is no Ray cluster: a proxy, or another program."""
    try:
        import grpc
    except ImportError:
        return
    if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        # Only Ray knows how its certificates are read.
        return
    of_client = address.startswith(CLIENT)
    # As Ray itself: no proxy of the environment.
    options = [("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(address.removeprefix(CLIENT), options=options) as channel:
        call: Any = channel.unary_unary(_OF_CLIENT if of_client else _OF_CLUSTER)
        try:
            call(_ping() if of_client else b"", timeout=PATIENCE)
        except grpc.RpcError as error:
            said: Any = error
            # Any other status, such as a missing token, is an answer of Ray.
            codes = grpc.StatusCode
            if said.code() in (codes.UNAVAILABLE, codes.DEADLINE_EXCEEDED, codes.UNIMPLEMENTED):
                raise UsageError(
                    f"{flag} {address} is no Ray cluster that answers; {_ADVICE}"
                ) from None


def _ping() -> bytes:
    """Return the question of Ray's client whether the server is there."""
    # Its messages are made when the module is imported, so that no checker of types knows them.
    of_client: Any = importlib.import_module("ray.core.generated.ray_client_pb2")
    question = of_client.ClusterInfoRequest(type=of_client.ClusterInfoType.PING)
    return bytes(question.SerializeToString())
