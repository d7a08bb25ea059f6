"""IPython in a terminal, driven as a person would: what it shows, Ctrl-C, the debugger."""

from __future__ import annotations

import os
import re
import sys

import pytest
from notebooks import said

pexpect = pytest.importorskip("pexpect")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals"),
]

ALL = {0, 1, 2, 3}
PROMPT = r"In \[\d+\]: "
START = "import enginery as ipp; cluster = ipp.Cluster(n=4); rc = cluster.start_and_connect_sync()"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Terminal:
    """An IPython that is typed into."""

    def __init__(self, *options):
        command = ["-m", "IPython", "--simple-prompt", "--no-banner", "--no-confirm-exit", "--colors=linux", *options]
        environ = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "IPY_TEST_SIMPLE_PROMPT": "1"}
        self.child = pexpect.spawn(
            sys.executable, command, env=environ, encoding="utf-8", timeout=30, dimensions=(40, 100), echo=False
        )
        self.child.expect(PROMPT)

    def run(self, line):
        """Run a line; what was shown until the next prompt, without the ends of lines that terminals have."""
        self.child.sendline(line)
        return self.seen(PROMPT)

    def type_cell(self, *lines):
        """Type a cell of several lines, and the two empty lines that end it."""
        for line in (*lines, "", ""):
            self.child.sendline(line)

    def run_cell(self, *lines):
        """Run a cell of several lines; what was shown, without the prompts of its lines."""
        self.type_cell(*lines)
        return re.sub(r"(   \.\.\.: )+", "", self.seen(PROMPT))

    def seen(self, until):
        self.child.expect(until)
        return self.child.before.replace("\r\n", "\n").strip("\n")

    def see_all_begin(self):
        """Wait until each engine has said that it has begun, in whatever order."""
        waiting = [re.escape(f"[stdout:{engine}] begun {engine}") for engine in ALL]
        while waiting:
            del waiting[self.child.expect(waiting)]

    def close(self):
        self.child.sendline("exit")
        self.child.expect(pexpect.EOF)
        self.child.close()


@pytest.fixture(scope="module")
def terminal():
    terminal = Terminal()
    assert terminal.run(START) == ""
    yield terminal
    terminal.run("cluster.stop_cluster_sync()")
    terminal.close()


def plain(text):
    return COLOUR.sub("", text)


def test_the_first_client_activates_the_magics(terminal):
    assert said(terminal.run("%px print('hello')")) == {"hello": ALL}
    assert terminal.run_cell("%%px --no-stream", "print('hello')") == "[stdout:0-3] hello"


def test_no_engines_yet():
    terminal = Terminal("--ext=enginery")
    try:
        shown = terminal.run("%px 1")
        assert "has no engines yet. Connect first: rc = enginery.Client()" in shown
    finally:
        terminal.close()


def test_autopx(terminal):
    assert terminal.run("%autopx") == "%autopx enabled"
    assert terminal.run("n = engine_id") == ""
    assert said(terminal.run("print(n)")) == {str(engine): {engine} for engine in range(4)}
    # A block goes to the engines as a whole, once it is complete.
    for line in ("for i in range(2):", "    print(i, end=';')"):
        terminal.child.sendline(line)
    assert said(terminal.run("").replace("   ...: ", "")) == {"0;1;": ALL}
    assert terminal.run("%autopx") == "%autopx disabled"
    assert "NameError" in plain(terminal.run("n"))


def test_tracebacks_name_engines_and_highlight_remote_frames(terminal):
    shown = terminal.run("%px 1 / 0")
    assert re.search(r"\x1b\[[0-9;]+m1\x1b", shown)  # numbers of the source line are coloured
    lines = plain(shown).splitlines()
    assert re.fullmatch(r"\[[\d,-]+:execute\]", lines[0])
    assert "    1 / 0" in lines
    assert lines[-2:] == ["ZeroDivisionError: division by zero", "4 errors"]
    shown = terminal.run("rc[:2].apply_sync(lambda: [] + 1)")
    lines = plain(shown).splitlines()
    assert lines[0] == "[0-1:apply] (engines 0-1 said the same)"
    assert lines[-1].startswith("TypeError")
    assert shown != plain(shown)


def test_ctrl_c_stops_the_engines_and_shows_what_came(terminal):
    terminal.run("%px import time")
    terminal.child.sendline("%px print('begun', engine_id, flush=True), time.sleep(1000)")
    terminal.see_all_begin()
    terminal.child.sendintr()
    shown = plain(terminal.seen(PROMPT))
    assert "Sending SIGINT to engine(s) 0-3. Interrupt again to stop waiting for them." in shown
    assert "KeyboardInterrupt" in shown
    assert "enginery/engine" not in shown  # the frames are the user's
    assert shown.rstrip().endswith("4 errors")
    assert said(terminal.run("%px print('there')")) == {"there": ALL}


def test_a_second_ctrl_c_stops_waiting(terminal):
    terminal.type_cell("%%px --signal-on-interrupt 0", "print('begun', engine_id, flush=True); time.sleep(1000)")
    terminal.see_all_begin()
    terminal.child.sendintr()
    assert "KeyboardInterrupt" in plain(terminal.seen(PROMPT))
    assert "True" in terminal.run("rc.queue_status(verbose=False) and bool(rc.outstanding)")
    terminal.run("rc.send_signal('SIGINT')")
    assert "KeyboardInterrupt" in plain(terminal.run("%pxresult"))


def test_lines_that_change_stand_below(terminal):
    code = "for i in range(4): print('\\r', i, end='', flush=True); time.sleep(0.2)"
    shown = terminal.run_cell("%%px --progress-after 0", code)
    assert "%px:   0%|" in shown
    assert "%px: 100%|" in shown
    assert "\x1b[1A\x1b[J" in shown  # the tail was taken back
    assert said(shown.replace("\r", "\n").replace("\x1b[J", "\n"))[" 3"] == ALL


def test_the_debugger_opens_on_the_remote_frame(terminal, tmp_path):
    terminal.child.sendline("def fails(x):")
    terminal.child.sendline("    there = x * 2")
    terminal.child.sendline("    return there / 0")
    terminal.run("")
    terminal.run("ar = rc[2].apply_async(fails, 21); ar.wait()")
    terminal.child.sendline("ar.debug()")
    shown = terminal.seen(r"\(Pdb\) ")
    assert "Post-mortem on engine 2 " in shown
    assert "-> return there / 0" in shown
    terminal.child.sendline("p there")
    assert terminal.seen(r"\(Pdb\) ").strip() == "42"
    fifo = tmp_path / "begun"
    os.mkfifo(fifo)
    terminal.child.sendline(f"p open({str(fifo)!r}, 'w').close(), [0 for _ in iter(int, 1)]")
    fifo.open().close()  # waits until the engine has opened it
    terminal.child.sendintr()
    assert "KeyboardInterrupt" in terminal.seen(r"\(Pdb\) ")
    terminal.child.sendline("p there + 1")
    assert terminal.seen(r"\(Pdb\) ").strip() == "43"
    assert terminal.run("q") == ""
    assert "there = 42" in terminal.run("print(ar.traceback(locals=True))")


def test_pxdebug(terminal):
    terminal.run("%px [] + engine_id")
    terminal.child.sendline("%pxdebug 3")
    assert "Post-mortem on engine 3 " in terminal.seen(r"\(Pdb\) ")
    terminal.child.sendline("p engine_id")
    assert terminal.seen(r"\(Pdb\) ").strip() == "3"
    assert terminal.run("q") == ""
    assert "takes the id of an engine" in terminal.run("%pxdebug three")


def test_noninteractive():
    terminal = Terminal()
    try:
        terminal.run("import os; os.environ['IPP_NONINTERACTIVE'] = '1'")
        terminal.run(START.replace("n=4", "n=2"))
        shown = terminal.run_cell("%%px", "print(engine_id); import time; time.sleep(0.3); print(2)")
        assert shown.endswith("[stdout:0]\n0\n2\n[stdout:1]\n1\n2")
        terminal.run("cluster.stop_cluster_sync()")
    finally:
        terminal.close()
