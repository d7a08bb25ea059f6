"""The generated pages are up to date, and no link leads nowhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TOOLS = Path(__file__).parents[2] / "docs" / "tools"


def test_reference_pages_are_fresh_and_links_lead_somewhere():
    done = subprocess.run([sys.executable, TOOLS, "--check"], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr


def test_the_site_can_be_built(tmp_path):
    sys.path.insert(0, str(TOOLS))
    try:
        import website
    finally:
        sys.path.remove(str(TOOLS))
    site = website.Website(TOOLS.parents[1])
    site.write(tmp_path)
    index = (tmp_path / "index.html").read_text()
    for page in site.pages.values():
        assert (tmp_path / page.target).exists()
        assert f'href="{page.target}"' in index
