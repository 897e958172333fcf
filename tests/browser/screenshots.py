"""`make screenshots`: the pictures of the documentation, taken from the real pages."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.browser import tabs
from tests.browser.chromium import chromium
from tests.browser.places import PLACES
from tests.browser.school import fill
from tests.portal_process import ROOT, running_portal

IMAGES = ROOT / "docs" / "images"
LARGEST_BYTES = 150_000

# The names of places, and the height that each picture shows.
PICTURES = {
    "overview": 800,
    "queue": 925,
    "queue-paused": 560,
    "discard": 420,
    "dead-letters": 560,
    "keys": 400,
    "upload-new": 940,
    "check": 880,
    "review": 900,
    "fix": 640,
    "upload-done": 640,
    "enter": 720,
    "rejections": 520,
}


def main() -> None:
    """Start a portal, fill it, and take all pictures again."""
    places = {place.name: place for place in PLACES}
    IMAGES.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        running_portal(Path(folder), ENV_FILE="/dev/null", ENVIRONMENT_NAME="") as portal,
    ):
        school = fill(portal)
        with chromium() as browser:
            for name, height in PICTURES.items():
                person = places[name].person
                session = school.sessions[person] if person else None
                size = {"width": 1100, "height": height}
                with tabs.opened(browser, portal.address, session, viewport=size) as tab:
                    places[name].open(tab, school)
                    tab.wait_for_load_state("networkidle")
                    picture = tab.screenshot(path=IMAGES / f"{name}.png")
                assert len(picture) < LARGEST_BYTES, f"{name}.png has {len(picture):,} bytes"


if __name__ == "__main__":
    main()
