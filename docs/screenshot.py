"""Take the picture of TensorBoard that is in the guide: python docs/screenshot.py FOLDER PICTURE.

It starts TensorBoard on the run folder, opens the page "Custom Scalars" in Chromium (Debian package
`chromium`) without a window, and writes what is seen as a PNG file.
"""

import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("headless", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking")
FLAGS += ("disable-component-update", "disable-sync", "hide-scrollbars")


def browser() -> str | None:
    """Return the path of a browser that can be run without a window; None where there is none."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return int(one.getsockname()[1])


def _wait_for(address: str, seconds: float) -> None:
    """Return when a page answers; raise TimeoutError if it does not in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.5)
    raise TimeoutError(f"{address} does not answer")


def take(folder: Path, picture: Path, size: tuple[int, int] = (1200, 860)) -> None:
    """Write a picture of TensorBoard's page "Custom Scalars" for a run folder.

    size: width and height in pixels. Raises FileNotFoundError where there is no browser.
    """
    program = browser()
    if program is None:
        raise FileNotFoundError(f"no browser: install one of {', '.join(BROWSERS)}")
    port = _free_port()
    board = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--port", str(port)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with tempfile.TemporaryDirectory() as profile, subprocess.Popen(board, **quiet) as server:
        try:
            address = f"http://localhost:{port}/"
            _wait_for(address, 120)
            view = [f"--window-size={size[0]},{size[1]}", "--virtual-time-budget=30000"]
            shot = [f"--user-data-dir={profile}", f"--screenshot={picture.resolve()}"]
            page = f"{address}#custom_scalars"
            subprocess.run(
                [program, *(f"--{flag}" for flag in FLAGS), *view, *shot, page],
                check=True,
                timeout=180,
                **quiet,
            )
        finally:
            server.terminate()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    take(Path(sys.argv[1]), Path(sys.argv[2]))
