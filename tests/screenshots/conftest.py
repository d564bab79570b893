"""A real browser, and servers on the loopback for it to look at."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WIDTH, HEIGHT = 1280, 960
SECONDS = 60
# Without a GPU the projector draws with a software renderer.
ARGUMENTS = ("--no-sandbox", "--disable-quic", "--enable-unsafe-swiftshader")


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    """Chromium: the one that `CHROMIUM` names, the system's, or Playwright's own."""
    from playwright.sync_api import sync_playwright

    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield started
        started.close()


@pytest.fixture
def page(browser: "Browser") -> Iterator["Page"]:
    """A new window, which gets nothing from any other host."""
    context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT})
    context.set_default_timeout(1000 * SECONDS)
    context.route(
        lambda url: not url.startswith(("http://127.0.0.1:", "data:", "blob:")),
        lambda route: route.abort(),
    )
    yield context.new_page()
    context.close()


@pytest.fixture
def save(page: "Page") -> Callable[[str], None]:
    """Keep a picture of the page, where `SCREENSHOTS` names a folder for them."""

    def save(name: str) -> None:
        if "SCREENSHOTS" in os.environ:
            page.screenshot(path=Path(os.environ["SCREENSHOTS"], f"{name}.png"))

    return save


@contextmanager
def serving(*command: str) -> Iterator[str]:
    """Run a module's server until the block ends; its address on the loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-m", *command, "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + SECONDS
        while True:
            assert process.poll() is None, f"{command} ended with {process.returncode}"
            assert time.monotonic() < deadline, f"{command} does not answer"
            try:
                with urllib.request.urlopen(url):
                    break
            except OSError:
                time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait()
