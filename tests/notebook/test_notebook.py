"""A notebook, run without a browser, that uses each magic: what stands below its cells."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("nbclient")

from notebooks import Shown, run, said

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180), pytest.mark.filterwarnings("default")]

START = """
import enginery as ipp
cluster = ipp.Cluster(n=4)
rc = cluster.start_and_connect_sync()
view = rc[:]
%pxconfig --progress-after 60  # no bar of a slow machine among the outputs
"""

CELLS = {
    "start": START,
    "px": "%px print('hello')",
    "imports": "%px import os, sys, time",
    "different": "%px print('I am', engine_id)",
    "result": "%px 40 + 2",
    "stream": """%%px
for i in range(3):
    print(f'step {i} of {engine_id}', flush=True)
    time.sleep(0.3)
""",
    "verbose": "%%px --verbose --targets ::2\nprint(engine_id)",
    "by type": "%%px --no-stream\nprint(1); sys.stderr.write('2')",
    "by engine": "%%px -e\nprint(engine_id); 5 * engine_id",
    "in order": """%%px --group-outputs=order -t [0,1]
from IPython.display import HTML, display
display(HTML('first')); display(HTML('second of %i' % engine_id))
""",
    "not blocking": "%%px --noblock --out later\nprint('later'); 7",
    "it is a result": "later.get()[0].data['text/plain']",
    "pxresult": "%pxresult",
    "result, too": "%result -e --out again",
    "the same": "again is later",
    "local": "%%px --local\nhere = 'engine_id' in globals()\nprint(here)",
    "config": "%pxconfig --noblock --targets 1 --progress-after -1",
    "configured": "%px engine_id",
    "back": "%pxconfig --block -t all --progress-after 60",
    "autopx on": "%autopx",
    "on engines": "mine = engine_id\nprint('engine', mine)",
    "autopx off": "%autopx",
    "here": "'mine' in globals()",
    "suffix": "rc[0].activate('_zero')",
    "px_zero": "%px_zero print(engine_id)",
    "px_zero wants to block": "%pxconfig_zero --block",
    "px_zero blocks": "%%px_zero\nprint('zero', engine_id)",
    "error": "%px 1 / 0",
    "errors": "%px raise ValueError(engine_id)",
    "after the error": "%px print('on we go')",
    "endless": """%%px
print('started', flush=True)
while True:
    time.sleep(0.01)
""",
    "after the interrupt": "%px print('still here')",
    "no such option": "%%px --colour\n1",
    "plot": """%%px -t 3
import matplotlib.pyplot as plt
%matplotlib inline
plt.plot([1, 2])
plt.show()
""",
    "widget": """%%px -t 0
from IPython.display import publish_display_data
publish_display_data({'application/vnd.jupyter.widget-view+json': {'model_id': 'x'}, 'text/plain': 'IntSlider(0)'})
""",
    "updated": """%%px -t 0
handle = display(HTML('<i>one</i>'), display_id=True)
handle.update(HTML('<i>two</i>'))
""",
    "text bar": """%%px -t 0
from tqdm import tqdm
for _ in tqdm(range(20), mininterval=0): time.sleep(0.01)
""",
    "progress bar": "%%px --progress-after 0\ntime.sleep(0.5)",
    "progress of a map": """
from tqdm import tqdm
rc.load_balanced_view().map(abs, range(40), chunksize=10).wait_interactive(widget=False)
""",
    "stream_output": """
ar = view.apply_async(lambda: print('spoken'))
with ar.stream_output():
    ar.get()
""",
    "display": "ar = rc[0].execute('HTML(\"<b>bold</b>\")', silent=False)\nar.get().display()",
    "reply": "ar.get()",
    "await": "ar = view.apply_async(abs, -3)\nawait ar",
    "async for": "[value async for value in rc.load_balanced_view().map_async(abs, range(-3, 0))]",
    "engines": "await rc.wait_for_engines(4, block=False)",
    "data": """
def publish():
    from enginery.datapub import publish_data
    publish_data({'step': 3})
ar = view.apply_async(publish)
ar.get()
ar.data
""",
    "load_ext": "%load_ext enginery",
    "stop": "cluster.stop_cluster_sync()",
}
NAMES = list(CELLS)
ALL = {0, 1, 2, 3}


@pytest.fixture(scope="module")
def shown() -> dict[str, Shown]:
    interrupted = NAMES.index("endless")
    found = run(list(CELLS.values()), when=lambda cell, text: cell == interrupted and said(text) == {"started": ALL})
    return dict(zip(NAMES, found, strict=True))


def result(shown: Shown) -> str:
    return "".join(shown.displays("text/plain"))


def test_output_has_labels(shown):
    assert said(shown["px"].text()) == {"hello": ALL}
    assert sorted(shown["different"].text().splitlines()) == [f"[stdout:{i}] I am {i}" for i in range(4)]
    assert said(shown["result"].text()) == {"42": ALL}


def test_engines_that_say_the_same_are_shown_once(shown):
    assert shown["by type"].text() == "[stdout:0-3] 1\nOut[0-3]: 1\n"
    assert shown["by type"].text("stderr") == "[stderr:0-3] 2\n"


def test_output_of_four_engines_streams_in_order(shown):
    for engine in range(4):
        lines = [line for line in shown["stream"].text().splitlines() if line.endswith(f"of {engine}")]
        assert [re.search(r"step (\d)", line)[1] for line in lines] == ["0", "1", "2"]
    # It came in several portions, not at the end.
    assert len(re.findall(r"\[stdout:0\]", shown["stream"].text())) > 1


def test_options_of_cells(shown):
    text = shown["verbose"].text()
    assert text.startswith("Parallel execution on engine(s): [0, 2]\n")
    assert said(text) == {"0": {0}, "2": {2}}
    by_engine = re.sub(r"(Out.*):\d+\]:", r"\1]:", shown["by engine"].text())
    assert by_engine == "".join(f"[stdout:{i}] {i}\nOut[{i}]: {5 * i}\n" for i in range(4))
    assert shown["in order"].displays("text/html") == ["first", "second of 0", "second of 1"]
    assert shown["in order"].order() == [
        "[output:0-1]",
        "text/html",
        "[output:0]",
        "text/html",
        "[output:1]",
        "text/html",
    ]
    assert "unrecognized arguments: --colour" in shown["no such option"].text("stderr")


def test_results_of_cells_that_do_not_block(shown):
    assert "AsyncResult" in result(shown["not blocking"])
    assert result(shown["it is a result"]) == "'7'"
    assert re.fullmatch(r"\[stdout:0-3\] later\nOut\[0-3\]: 7\n", shown["pxresult"].text())
    assert "[stdout:0-3] later" in shown["result, too"].text()
    assert result(shown["the same"]) == "True"


def test_local_runs_the_cell_here_as_well(shown):
    assert shown["local"].text().startswith("False\n")
    assert said(shown["local"].text()) == {"True": ALL}


def test_config_holds_for_later_cells(shown):
    assert "AsyncResult(execute)" in result(shown["configured"])


def test_autopx(shown):
    assert shown["autopx on"].text() == "%autopx enabled\n"
    assert said(shown["on engines"].text()) == {f"engine {i}": {i} for i in range(4)}
    assert shown["autopx off"].text() == "%autopx disabled\n"
    assert result(shown["here"]) == "False"


def test_suffixes_have_views_of_their_own(shown):
    assert "AsyncResult" in result(shown["px_zero"])  # this view does not block
    assert shown["px_zero blocks"].text() == "[stdout:0] zero 0\n"


def test_errors_name_the_engines_and_show_the_remote_frames(shown):
    error = shown["error"]
    text = error.text("stderr")
    assert re.match(r"\[[\d,-]+:execute\]\n", text)
    assert "\x1b[" in text  # coloured
    assert "1 / 0" in re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert "ZeroDivisionError" in text
    assert error.error().ename == "AlreadyDisplayedError"
    assert error.error().evalue == "4 errors"
    assert error.error().traceback == ["4 errors"]
    assert [f"[{i}:execute]" in shown["errors"].text("stderr") for i in range(4)] == [True] * 4
    assert said(shown["after the error"].text()) == {"on we go": ALL}


def test_an_interrupt_reaches_the_engines_and_they_go_on(shown):
    endless = shown["endless"]
    assert said(endless.text()) == {"started": ALL}
    assert "Sending SIGINT to engine(s) 0-3." in endless.text("stderr")
    assert "KeyboardInterrupt" in endless.text("stderr")
    assert endless.error().evalue == "4 errors"
    assert said(shown["after the interrupt"].text()) == {"still here": ALL}


def test_rich_displays_are_shown_with_labels(shown):
    plot = shown["plot"]
    assert plot.order()[-2:] == ["[output:3]", "image/png"]
    assert len(plot.displays("image/png")[0]) > 1000
    assert "widget-view" not in str(shown["widget"].outputs)
    assert shown["widget"].text() == "[output:0] IntSlider(0)\n"
    assert shown["updated"].displays("text/html") == ["<i>two</i>"]
    assert shown["display"].displays("text/html") == ["<b>bold</b>"]
    assert shown["reply"].displays("text/html") == ["<b>bold</b>"]
    assert re.fullmatch(r"Out\[0:\d+\]: <IPython.core.display.HTML object>", result(shown["reply"]))


def test_progress_bars(shown):
    bar = shown["text bar"]
    assert re.search(r"\[stderr:0\] 100%\|█+\| 20/20", bar.all_text())
    assert bar.all_text().count("\n") == 1
    whole = shown["progress bar"]
    assert "%px" in "".join(whole.displays("text/plain")) + whole.all_text()
    assert "40/40" in shown["progress of a map"].text("stderr")  # items, not chunks


def test_results_in_the_notebook_s_own_event_loop(shown):
    assert said(shown["stream_output"].text()) == {"spoken": ALL}
    assert result(shown["await"]) == "[3, 3, 3, 3]"
    assert result(shown["async for"]) == "[3, 2, 1]"
    assert shown["engines"].error() is None
    assert result(shown["data"]) == "[{'step': 3}, {'step': 3}, {'step': 3}, {'step': 3}]"


def test_the_extension_can_be_loaded(shown):
    assert shown["load_ext"].outputs == []


def test_nothing_else_went_wrong(shown):
    wanted = {"error", "errors", "endless"}
    errors = {name: each.error().evalue for name, each in shown.items() if each.error() and name not in wanted}
    assert errors == {}
