"""Cells on engines: IPython in all its parts, and none of it before it is needed."""

from __future__ import annotations

import pytest

from enginery.cluster.cluster import Cluster
from enginery.errors import CompositeError, RemoteError

pytestmark = pytest.mark.slow
PATIENCE = 30


def modules():
    import sys

    return "IPython" in sys.modules


def test_ipython_is_imported_when_it_is_needed_and_not_before(tmp_path):
    with Cluster(n=1, profile_dir=str(tmp_path / "profile_x")) as rc:
        view = rc[0]
        view.execute("import os; a = 1", block=True)
        with view.sync_imports(quiet=True):
            import colorsys
        assert view.apply_sync(lambda: colorsys.rgb_to_hsv(0, 0, 0)) == (0.0, 0.0, 0)
        assert view.pull("a", block=True) == 1
        assert not view.apply_sync(modules)
        view.execute("a", silent=False, block=True)
        assert view.apply_sync(modules)
        assert view.apply_sync(lambda: type(get_ipython()).__name__) == "EngineShell"  # noqa: F821


def test_a_reply_has_the_result_and_its_number(rc):
    reply = rc[0].execute("20 + 1", silent=False).get(PATIENCE)
    assert reply.data == {"text/plain": "21"}
    assert reply.execution_count >= 1
    assert reply.source == "20 + 1"
    following = rc[0].execute("_ * 2", silent=False).get(PATIENCE)
    assert following.data == {"text/plain": "42"}
    assert following.execution_count == reply.execution_count + 1


def test_cells_and_functions_share_the_namespace(dv):
    dv.execute("shared = 1\ndef double(): return 2 * shared", block=True)
    assert dv.apply_sync(lambda: shared) == [1, 1]  # noqa: F821
    dv["shared"] = 5
    reply = dv.execute("double()", silent=False).get(PATIENCE)
    assert [each.data["text/plain"] for each in reply] == ["10", "10"]


def test_rich_results_keep_their_representations(rc):
    result = rc[0].execute("from IPython.display import HTML\nHTML('<i>x</i>')", silent=False)
    reply = result.get(PATIENCE)
    assert reply.data["text/html"] == "<i>x</i>"
    assert result.execute_result["data"]["text/html"] == "<i>x</i>"
    assert reply._repr_html_() == "<i>x</i>"


def test_magics_commands_and_await(dv):
    result = dv.execute("%cd -q /\n!echo $PWD\nimport asyncio\nprint(await asyncio.sleep(0, 'awaited'))", silent=False)
    result.get(PATIENCE)
    assert [text.split() for text in result.stdout] == [["/", "awaited"]] * 2


def test_files_are_run(rc, tmp_path):
    path = tmp_path / "file.ipy"
    path.write_text("%env ENGINERY_RUN=1\nran = 3")
    rc[0].run(path, block=True)
    assert rc[0]["ran"] == 3


def test_errors_have_the_frames_of_the_cell_and_nothing_else(dv):
    result = dv.execute("def f(x):\n    return 1 / x\n\nf(0)", silent=False)
    with pytest.raises(CompositeError) as info:
        result.get(PATIENCE)
    for _, _, text, _ in info.value.elist:
        frames = [line.rpartition(", in ")[2] for line in text.splitlines() if line.startswith("  File")]
        assert frames == ["<module>", "f"]
        assert "return 1 / x" in text
    assert all("ZeroDivisionError" in error for error in result.error)


def test_plain_cells_show_their_lines_as_well(tmp_path):
    with Cluster(n=1, profile_dir=str(tmp_path / "profile_x")) as rc:
        with pytest.raises(RemoteError) as info:
            rc[0].execute("a = 1\na / 0").get(PATIENCE)
        assert "    a / 0\n" in info.value.traceback
        assert not rc[0].apply_sync(modules)


def test_output_and_error_come_in_program_order(rc):
    result = rc[0].execute("print('1'); display(2); print('3')\n4 / 0", silent=False)
    with pytest.raises(RemoteError):
        result.get(PATIENCE)
    kinds = [output.kind for _, _, output in result._spoken.entries()]
    assert kinds == ["stdout", "display", "stdout", "error"]


def test_clear_leaves_a_shell_that_works(rc):
    rc[0].execute("mine = 1; 5", silent=False, block=True)
    rc[0].clear(block=True)
    names = rc[0].pull("list(globals())", block=True)
    assert "mine" not in names
    assert {"engine_id", "get_ipython", "In"} <= set(names)
    assert rc[0].execute("engine_id", silent=False).get(PATIENCE).data == {"text/plain": "0"}


def test_the_shell_is_configured_by_command_line_and_profile(tmp_path):
    profile = tmp_path / "profile_x"
    profile.mkdir()
    (profile / "ipengine_config.py").write_text(
        "c.InteractiveShell.ast_node_interactivity = 'all'\n"
        "c.InteractiveShell.xmode = 'Verbose'\n"
        "c.PlainTextFormatter.pprint = False\n"
        "c.InteractiveShellApp.extensions = ['storemagic']\n"
    )
    (profile / "ipcluster_config.py").write_text(
        "c.EngineLauncher.engine_args = ['--InteractiveShell.colors=nocolor', '--InteractiveShell.xmode=Plain']\n"
    )
    with Cluster(n=1, profile_dir=str(profile)) as rc:
        code = "s = get_ipython()\n(s.colors, s.xmode, s.ast_node_interactivity)"
        assert rc[0].execute(code, silent=False).get(PATIENCE).data == {"text/plain": "('nocolor', 'Plain', 'all')"}
        loaded = rc[0].execute("'store' in s.magics_manager.magics['line']", silent=False).get(PATIENCE)
        assert loaded.data == {"text/plain": "True"}
