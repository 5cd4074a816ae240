"""`maskmill up` with the real servers and stand-ins for the service's own processes.

Run as `python -m tests.integration.maskmill.embedded.stand_in_up DATA`.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import typer

from maskmill.cli.up import up
from maskmill.embedded import stack
from maskmill.embedded.child import ChildSpec

API = """
import http.server, sys
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/readyz" else 404)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Ready).serve_forever()
"""
WORKER = """
import signal, sys, time
def finish(*_):
    print("finished", flush=True)
    sys.exit()
signal.signal(signal.SIGTERM, finish)
print("ready", flush=True)
time.sleep(600)
"""
PREPARATION = "import os; print('prepared with', os.environ['MASKMILL_DATABASE_URL'])"
ServiceChildren = stack.service_children
PreparingChildren = stack.preparing_children


def service_children(
    *, host: str, port: int, environment: Mapping[str, str], logs: Path
) -> list[ChildSpec]:
    real = ServiceChildren(host=host, port=port, environment=environment, logs=logs)
    return [with_code(spec, API if spec.name == "api" else WORKER, str(port)) for spec in real]


def preparing_children(
    *, api_key: str, environment: Mapping[str, str], logs: Path
) -> list[ChildSpec]:
    real = PreparingChildren(api_key=api_key, environment=environment, logs=logs)
    return [with_code(spec, PREPARATION) for spec in real]


def with_code(spec: ChildSpec, code: str, *arguments: str) -> ChildSpec:
    return replace(spec, argv=(sys.executable, "-c", code, *arguments))


def stand_in(set_attribute: Callable[[object, str, object], None] = setattr) -> None:
    set_attribute(stack, "service_children", service_children)
    set_attribute(stack, "preparing_children", preparing_children)


if __name__ == "__main__":
    stand_in()
    typer.run(up)
