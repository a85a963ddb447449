"""A page in a real browser, where there is one."""

import re
import shutil
import subprocess

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--enable-logging=stderr", "--hide-scrollbars"),
)
# A window is never narrower than 500; a frame is.
FRAME = """<!DOCTYPE html><title>waiting</title>
<script>onmessage = (event) => { document.title = event.data; };</script>
<iframe src="probed.html" style="width: WIDTHpx; height: 1600px; border: 0"></iframe>
"""


def browse(page, folder, *actions):
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder}", "--window-size=1400,1600", *actions, page.as_uri()]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert finished.returncode == 0, finished.stderr
    assert "CONSOLE" not in finished.stderr, finished.stderr
    return finished.stdout


def facts(page, folder, probe, width):
    """Return the words that a script in a copy of the page posts, in a frame of a width."""
    probed = folder / "probed.html"
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
    probed.write_text(text.replace("</body>", f"{probe}</body>").replace("<details>", "<details open>"))
    frame = folder / "frame.html"
    frame.write_text(FRAME.replace("WIDTH", str(width)))
    dom = browse(frame, folder / "profile", "--dump-dom", "--virtual-time-budget=5000")
    found = re.search("<title>facts (.*?)</title>", dom)
    assert found is not None, dom[:500]
    return found[1].split()
