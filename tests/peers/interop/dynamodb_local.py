"""AWS's DynamoDB Local, in memory, around a command.

    python tests/peers/interop/dynamodb_local.py BUILD_DIR COMMAND...

The command finds its address in AWS_ENDPOINT_URL_DYNAMODB, and in KINESINK_TEST_DYNAMODB for tests that would otherwise
use the one in process. Exits as the command does.
"""

import contextlib
import os
import pathlib
import socket
import subprocess
import sys
import time

START_SECONDS_MAX = 60


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def dynamodb_local(build):
    """Its address."""
    port = free_port()
    jars = pathlib.Path(build, "dynamodb", "lib")
    command = ["java", "-Xmx512m", "-XX:+UseSerialGC", "-cp", f"{jars}/*"]
    command += ["com.amazonaws.services.dynamodbv2.local.main.ServerRunner"]
    # Telemetry would try to reach AWS.
    command += ["-port", str(port), "-sharedDb", "-disableTelemetry", "-inMemory"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            deadline = time.monotonic() + START_SECONDS_MAX
            while not accepts(port):
                if server.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("DynamoDB Local did not start")
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.kill()


def accepts(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def main():
    build, *command = sys.argv[1:]
    with dynamodb_local(build) as address:
        named = {"AWS_ENDPOINT_URL_DYNAMODB": address, "KINESINK_TEST_DYNAMODB": address}
        local = {"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
        return subprocess.run(command, env=os.environ | local | named).returncode


if __name__ == "__main__":
    sys.exit(main())
