"A notebook in a real JupyterLab, in a real Chromium"

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from helpers import ROOT, quiet_port

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)

NOTEBOOK = (
    "const w = window.jupyterapp.shell.currentWidget, cells = [...w.content.model.cells].filter(c => c.type == 'code');"
)
FAILED = "c.outputs.toJSON().filter(o => o.output_type == 'error')"
ERRORS = f"() => {{{NOTEBOOK} return cells.flatMap(c => {FAILED}.map(o => o.ename + ': ' + o.evalue))}}"
RUN = "!c.sharedModel.source.trim() || (c.executionCount != null && c.executionState != 'running')"
QUIET = f"w.sessionContext.session.kernel.status == 'idle' && cells.every(c => {RUN})"
DONE = f"() => {{{NOTEBOOK} return cells.some(c => {FAILED}.length) || ({QUIET})}}"
IDLE = "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status == 'idle'"


class Lab:
    "A JupyterLab server on a free port over a folder of its own; a context"

    def __init__(self, folder: Path):
        self.folder, self.token, self.port = folder, secrets.token_hex(16), quiet_port()
        settings = folder / ".lab" / "@jupyterlab" / "apputils-extension"
        settings.mkdir(parents=True)
        (settings / "notification.jupyterlab-settings").write_text(
            json.dumps({"fetchNews": "false", "checkForUpdates": False})
        )  # no question at the start
        (folder / "runs").mkdir()
        (ROOT / "nbs" / "runs" / "tiny").mkdir(parents=True, exist_ok=True)
        (folder / "runs" / "tiny").symlink_to(
            ROOT / "nbs" / "runs" / "tiny"
        )  # what other notebooks have trained already
        places = {
            f"JUPYTER{name}": str(folder / f".{name.lower()}")
            for name in ("LAB_WORKSPACES_DIR", "_RUNTIME_DIR", "_CONFIG_DIR")
        }
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        env = {
            **os.environ,
            **places,
            "JUPYTERLAB_SETTINGS_DIR": str(folder / ".lab"),
            "IPYTHONDIR": str(folder / ".ipython"),
            "PATH": path,
            "OMP_NUM_THREADS": "1",
        }
        options = [
            f"--port={self.port}",
            "--ip=127.0.0.1",
            f"--IdentityProvider.token={self.token}",
            f"--ServerApp.root_dir={folder}",
            "--LabApp.news_url=None",
            "--ServerApp.port_retries=0",
        ]
        self.log = open(folder / "server.log", "w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--expose-app-in-browser", *options],
            env=env,
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )

    def __enter__(self) -> "Lab":
        end = time.monotonic() + 60
        while time.monotonic() < end and self.process.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api?token={self.token}", timeout=1).close()
                return self
            except OSError:
                time.sleep(0.1)
        self.__exit__()
        raise AssertionError((self.folder / "server.log").read_text())

    def __exit__(self, *_) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.log.close()

    def run_all(self, page, name: str, seconds: int = 300) -> None:
        "Open a copy of a notebook, run all of its cells, and have no error"
        shutil.copy(ROOT / "nbs" / name, self.folder / Path(name).name)
        page.set_default_timeout(seconds * 1000)
        page.goto(f"http://127.0.0.1:{self.port}/lab/tree/{Path(name).name}?reset&token={self.token}")
        page.wait_for_selector(".jp-Notebook .jp-Cell")
        page.wait_for_function(f"() => document.querySelector('.jp-Dialog .jp-mod-accept') || ({IDLE})()")
        if page.locator(".jp-Dialog").count():  # which kernel?
            page.locator(".jp-Dialog .jp-mod-accept").first.click()
        page.wait_for_function(IDLE)
        whole = "{...w.content.notebookConfig, windowingMode: 'none'}"  # cells out of sight, too
        page.evaluate(
            "() => {const shell = window.jupyterapp.shell, w = shell.currentWidget; shell.collapseLeft();"
            f" w.content.notebookConfig = {whole}}}"
        )
        page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
        page.wait_for_function(DONE, polling=250)
        assert not page.evaluate(ERRORS)


def drag(page, name: str, share: float) -> None:
    "Move the slider of that description with the mouse to a place between its ends, 0 to 1"
    row = page.locator(".widget-slider, .widget-hslider").filter(has=page.locator(".widget-label", has_text=name)).first
    row.scroll_into_view_if_needed()
    handle, bar = row.locator(".noUi-handle").bounding_box(), row.locator(".noUi-target").bounding_box()
    y = handle["y"] + handle["height"] / 2
    page.mouse.move(handle["x"] + handle["width"] / 2, y)
    page.mouse.down()
    page.mouse.move(bar["x"] + bar["width"] * share, y, steps=8)
    page.mouse.up()
