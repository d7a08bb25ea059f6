"""Every example of README.md and docs/ is run, each page as a program of its own with real clusters."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

HERE = Path(__file__).parent
#: Seconds after which a page is taken to hang; most take one.
LONGEST = 45
_spec = spec_from_file_location("enginery_docs_pages", HERE / "pages.py")
pages = module_from_spec(_spec)
sys.modules[_spec.name] = pages
_spec.loader.exec_module(pages)

PAGE = """
```python
first()
```

```text
what it prints
```
```python
second()
```
Prose.
```text
not what the second prints
```
```console
$ one
its output
$ two
```
```sh
not run
```
```python some_config.py
c.A.b = 1
```
"""


@pytest.mark.slow
@pytest.mark.parametrize("page", pages.example_pages())
def test_the_examples_of_a_page_do_what_it_says(page):
    command = [sys.executable, HERE / "run_page.py", page]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LONGEST)
    assert not done.returncode, done.stderr


def test_what_is_run_of_a_page():
    assert pages.steps_of(PAGE) == [
        ("python", "first()\n", 3, "what it prints\n"),
        ("python", "second()\n", 10, None),
        ("console", "one", 17, "its output\n"),
        ("console", "two", 19, None),
        ("config", "c.A.b = 1\n", 25, None),
    ]


def test_a_block_without_an_end_is_named():
    with pytest.raises(ValueError, match="line 2"):
        pages.blocks_of("x\n```python\n1\n")
