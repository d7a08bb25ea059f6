"""The generated pages are up to date, no link leads nowhere, and the drawing of the tree is complete."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / "docs" / "tools"
SOURCE = ROOT / "src" / "enginery"
#: What the drawing names as a whole.
WHOLE = {"cli", "config", "integrations", "notebook", "testing", "_version.py"}


def test_reference_pages_are_fresh_and_links_lead_somewhere():
    done = subprocess.run([sys.executable, TOOLS, "--check"], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr


def test_the_site_can_be_built(tmp_path):
    sys.path.insert(0, str(TOOLS))
    try:
        import website
    finally:
        sys.path.remove(str(TOOLS))
    site = website.Website(ROOT)
    site.write(tmp_path)
    index = (tmp_path / "index.html").read_text()
    for page in site.pages.values():
        assert (tmp_path / page.target).exists()
        assert f'href="{page.target}"' in index


def test_every_source_file_stands_in_the_tree_of_the_architecture():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    tree = {"__init__", "__main__"} | set(re.findall(r"\w+", text[text.index("```text") : text.index("\n```\n")]))
    files = [path.relative_to(SOURCE) for path in SOURCE.rglob("*.py")]
    missing = [str(path) for path in files if path.parts[0] not in WHOLE and path.stem not in tree]
    assert not missing, f"ARCHITECTURE.md does not name {missing}"
