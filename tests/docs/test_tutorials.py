"""The tutorials: every one is a notebook of the site, and running one shows what its cells print."""

import ast
from dataclasses import replace
from pathlib import Path

import pytest
from generators import tutorials
from generators.tutorials import Built, Tutorial, TutorialError, names, read, run, times, to_markdown

NAVIGATION = (Path(__file__).parents[2] / "mkdocs.yml").read_text()


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """Return a function that runs a notebook of some cells."""

    def running(*cells: str) -> Tutorial:
        (tmp_path / "own.py").write_text(
            "# %% [markdown]\n# # Own\n\n" + "\n\n".join(f"# %%\n{cell}" for cell in cells)
        )
        monkeypatch.setattr(tutorials, "FOLDER", tmp_path)
        return run("own", tmp_path)

    return running


@pytest.mark.parametrize("name", names())
def test_every_tutorial_is_a_page_whose_cells_are_python(name):
    tutorial = read(name)

    assert f"tutorials/{name}.md" in NAVIGATION
    assert tutorial.cells[0].source.startswith("# ")
    for cell in tutorial.cells:
        if cell.is_code:
            ast.parse(cell.source.replace("!mmood", "#"))


def test_a_cell_shows_what_it_prints_and_its_last_value(notebook):
    tutorial = notebook("print('one')\n2 + 3", "x = 4", "_ = x")
    assert [cell.printed for cell in tutorial.cells if cell.is_code] == ["one\n5", "", ""]
    assert "```{ .text .output }\none\n5\n```" in to_markdown(tutorial)


def test_a_command_runs_here_and_shows_its_output(notebook):
    tutorial = notebook("# !mmood configs")
    assert "demo_zeroshot.yaml" in tutorial.cells[-1].printed


def test_progress_is_not_shown(notebook):
    tutorial = notebook("print('Epoch 0 ━━━━━━ 3/3\\n' + ' ' * 70 + 'train/loss:\\n' + ' ' * 70 + '0.3\\nkept')")
    assert tutorial.cells[-1].printed.strip() == "kept"


def test_cells_share_their_names_and_the_folder(notebook, tmp_path):
    notebook("from pathlib import Path\nPath('written').write_text('x')", "assert Path('written').exists()")
    assert (tmp_path / "written").exists()


def test_an_image_is_shown(notebook):
    tutorial = notebook("from PIL import Image\nImage.new('RGB', (2, 2))")
    assert "data:image/png;base64," in to_markdown(tutorial)


@pytest.mark.parametrize(
    ("cell", "message"),
    [("1 / 0", "ZeroDivisionError"), ("# !mmood configs --nothing", "exit code 2"), ("x = = 1", "SyntaxError")],
)
def test_a_cell_that_fails_ends_the_build_and_is_named(notebook, cell, message):
    with pytest.raises(TutorialError, match=message):
        notebook(cell)


def test_a_build_says_how_long_each_tutorial_took(notebook, monkeypatch):
    monkeypatch.setattr(tutorials, "built", lambda: Built((replace(notebook("1"), seconds=12.4), read("own")), None))
    assert times().splitlines()[2:] == ["| [Own](own.md) | 12 |", "| [Own](own.md) | not run |"]


def test_a_tutorial_that_cannot_run_here_says_why(monkeypatch):
    monkeypatch.delenv("MMOOD_REAL_DATA", raising=False)
    assert "MMOOD_REAL_DATA is not set" in to_markdown(read("image_only"))
