"""`python -m sentiment.serve`: a page to type reviews on, and the same for programs."""

import argparse
import errno
import ipaddress
import signal
import socket
import sys
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from typing import NoReturn

from sentiment.arguments import Parser, load_predictor, orderly_exit, whole_number
from sentiment.errors import UserError

EXTRA = ("fastapi", "uvicorn", "captum")
HELP = """\
/ is the page: type a review, and see the probability move and the words that move it.

  POST /predict  {"texts": ["I loved it.", ""]}
    answers      {"predictions": [{"label": "positive", "probability": 0.973112},
                                  {"error": "empty text"}]}
  POST /explain  {"text": "I loved it."}
    answers      {"label": "positive", "probability": 0.973112, "logit": 3.588, "baseline": 0.2,
                  "tokens": [{"start": 2, "end": 7, "weight": 1.3}, ...]}
  GET  /health   labels, threshold and limits
  GET  /openapi.json  all of this as a schema

`probability` is that of the positive label. Weights of tokens add up to logit - baseline, the logit
of a text as long that says next to nothing. Requests that wait at the same time are computed
together. One that cannot be met is answered with a status and {"error": ...}; 503 says that too
much is waiting, and when to ask again.

The page and the server make no request to anywhere. There is no password and no encryption: bind it
to another address than loopback only where everyone who can reach it may use it.

SIGTERM lets requests in flight finish, for 10 seconds at most and the computation that runs. Exit
codes: 2 a mistake in the input (one line on standard error says which), 130 stopped by Ctrl-C, 143
by SIGTERM.
"""


def serve(arguments: argparse.Namespace) -> None:
    """Serve what the command line asks for, until a signal comes.

    Raises:
        UserError: an extra that is missing, an address or a checkpoint that cannot be used.
        KeyboardInterrupt: Ctrl-C, after the requests in flight.
    """
    missing = [name for name in EXTRA if find_spec(name) is None]
    if missing:
        raise UserError(
            f"the server needs {', '.join(missing)}, not installed: pip install 'sentiment[serve]'"
        )
    with listen(arguments.host, arguments.port) as listening:
        from sentiment.serving.server import make_server

        predictor = load_predictor(arguments)
        address, port = listening.getsockname()[:2]
        place = f"[{address}]" if ":" in address else address
        is_private = ipaddress.ip_address(address).is_loopback
        if not is_private:
            print(f"everyone who reaches {place} can use it, without a password", file=sys.stderr)
        names = (arguments.host, address)
        server = make_server(predictor, names if is_private else None)
        print(f"serving at http://{place}:{port}/ until Ctrl-C", file=sys.stderr)
        server.run(sockets=[listening])


def listen(host: str, port: int) -> socket.socket:
    """Take an address, before anything slow is done.

    Raises:
        UserError: it is unknown, in use or forbidden.
    """
    try:
        family, *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                f"port {port} of {host} is in use; choose another with --port, or 0 for any"
            ) from error
        raise UserError(f"--host={host} --port={port}: {error.strerror}") from error
    except UnicodeError as error:
        raise UserError(f"--host={host} is no name of a host") from error


def parse(command_line: Sequence[str]) -> argparse.Namespace:
    """Read the command line.

    Raises:
        UserError: options that are unknown or impossible.
    """
    parser = Parser("sentiment-serve", "Try a saved checkpoint in a browser.", HELP)
    parser.add_predictor()
    port = partial(whole_number, least=0, most=65535)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=port, default=8000, help="0 for any that is free (8000)")
    return parser.parse_args(command_line)


def _terminated(number: int, _: object) -> NoReturn:
    sys.exit(128 + number)


def main() -> None:
    """Entry point of `sentiment-serve`."""
    # The server notes a signal, finishes, and raises it again.
    signal.signal(signal.SIGTERM, _terminated)
    # A shell has those that it starts in the background ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with orderly_exit():
        serve(parse(sys.argv[1:]))


if __name__ == "__main__":
    main()
