"""The methods pages: every public method is on exactly one, and its docstring arrives there whole."""

import inspect
from pathlib import Path

import hooks
import pytest
from generators import robustness
from generators.catalogue import FAMILIES, family_of, methods, methods_of
from generators.commands import help_of, keys_page
from generators.docstrings import describe, typeset
from generators.pages import methods_page
from generators.proposals import section

import mmood
import mmood.scores
from mmood.attacks.settings import METHODS as METHODS_OF_ATTACK
from mmood.cli.commands import COMMANDS
from mmood.proposals.methods import METHODS
from mmood.scores import KNN, AbstractScore, NegLabel

DOCS = Path(__file__).parents[2] / "docs"


def _public() -> list[type]:
    """Everything in the two public faces that is a method and can be used as it is."""
    bases = (AbstractScore, mmood.AbstractDetector, mmood.AbstractPromptMethod)
    values = [getattr(room, name) for room in (mmood, mmood.scores) for name in room.__all__]
    return [one for one in values if inspect.isclass(one) and issubclass(one, bases) and not inspect.isabstract(one)]


def test_every_public_method_has_a_section_on_exactly_one_page():
    pages = {family.slug: methods_page(family.slug) for family in FAMILIES}

    for method in _public():
        anchor = f"{{ #{method.__name__.lower()} }}"
        assert [slug for slug, page in pages.items() if anchor in page] == [family_of(method).slug], method


def test_every_family_has_a_page_with_methods_in_the_navigation():
    navigation = (DOCS.parent / "mkdocs.yml").read_text()

    for family in FAMILIES:
        assert f"{{{{ methods {family.slug} }}}}" in (DOCS / "methods" / f"{family.slug}.md").read_text()
        assert f"methods/{family.slug}.md" in navigation
        assert methods_of(family)


def test_a_method_of_a_new_file_gets_onto_the_page_of_its_room():
    new = type("New", (), {"__module__": "mmood.scores.test_time.new"})
    assert family_of(new).slug == "streams"

    with pytest.raises(LookupError, match="elsewhere"):
        family_of(type("New", (), {"__module__": "elsewhere"}))


def test_a_section_says_what_the_class_says():
    page = methods_page("feature-space")
    section = page[page.index("## KNN") : page.index("## L1Norm")]

    assert "Cosine similarity with the nearest ID training images" in section
    assert "**Needs:** features, training images" in section
    assert "| `search` | `'exact'` |" in section
    assert "[2303.05828](https://arxiv.org/abs/2303.05828)" in section
    assert "mmood test --config" in section


def test_the_warning_of_a_docstring_stands_out():
    page = methods_page("zero-shot")
    section = page[page.index("## MCM") : page.index("## NoisyOr")]
    assert '!!! warning "Easily done wrong"\n\n    CLIP\'s own scale' in section


def test_published_rows_stand_with_their_score():
    page = methods_page("negatives")
    section = page[page.index("## NegLabel") :]
    assert "| NegLabel | 99.49 / 1.91 |" in section


def test_settings_are_those_of_the_constructor():
    for method in methods():
        known = list(inspect.signature(method).parameters)
        if known not in (["positional", "named"], ["args", "kwargs"]):
            assert [one.name for one in describe(method).settings] == known, method


def test_the_meaning_of_a_setting_comes_from_its_docstring():
    (groups,) = (one for one in describe(NegLabel).settings if one.name == "groups")
    assert (groups.default, groups.meaning) == (
        "100",
        "G, number of groups the negatives are split into; the paper's code uses 100, CMA 1.",
    )
    assert all(one.meaning for one in describe(KNN).settings)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("max_c softmax_c(cos(v, t_c) / T)", "max<sub>c</sub> softmax<sub>c</sub>(cos(v, t<sub>c</sub>) / T)"),
        ("m_{y_i}", "m<sub>y<sub>i</sub></sub>"),
        ("S_ada and seed_everything", "S<sub>ada</sub> and seed_everything"),
        ("(p_c (1 - p_c))^gamma", "(p<sub>c</sub> (1 - p<sub>c</sub>))<sup>gamma</sup>"),
        ("`max_c` < 1", "`max_c` &lt; 1"),
        ("weight * mean (1 - c) + b * max", r"weight \* mean (1 - c) + b \* max"),
    ],
)
def test_formulas_are_typeset(text, shown):
    assert typeset(text) == shown


def test_every_way_to_propose_names_is_described():
    text = section()
    assert all(f"--method {name} " in text for name in METHODS)


def test_every_attack_has_a_section_and_the_defaults_of_the_command():
    page = robustness.page()
    assert all(f"--attack {method}\n" in page for method in METHODS_OF_ATTACK)
    assert page.count('!!! warning "Easily done wrong"') >= 6

    defaults = {setting.name: setting.default for setting in robustness.attack_settings()}
    said = " ".join(help_of("attack").split())
    for flag in ("--attack", "--norm", "--direction", "--restarts", "--seed"):
        after = said[said.index(f" {flag} ") :]
        assert after[after.index("(default: ") :].startswith(f"(default: {defaults[flag]})"), flag


def test_an_attack_without_a_section_is_an_error(monkeypatch):
    monkeypatch.setattr(robustness, "METHODS", ("apgd", "new"))
    with pytest.raises(LookupError, match="new"):
        robustness.page()


def test_the_reference_of_commands_is_what_help_prints(capsys):
    for name in COMMANDS:
        assert help_of(name).startswith((f"usage: mmood {name}", f"mmood {name}")), name
    assert capsys.readouterr().out == ""


def test_the_reference_of_keys_has_every_group():
    page = keys_page()
    for key in ("data.id", "data.loader.workers", "evaluation.stream.order", "maps.files", "run_dir"):
        assert f"| `{key}` |" in page


@pytest.mark.parametrize("page", ["howto/own-score.md", "howto/own-module.md"])
def test_an_example_of_a_page_is_the_file_that_the_tests_run(page):
    text = hooks.on_page_markdown((DOCS / page).read_text())
    example = DOCS.parent / "tests" / "examples" / f"{Path(page).stem.replace('-', '_')}.py"
    assert f"```python\n{example.read_text().rstrip()}\n```" in text


def test_every_place_of_a_page_is_known():
    places = {match["what"] for file in DOCS.rglob("*.md") for match in hooks.PLACE.finditer(file.read_text())}
    assert {"example", "methods", "keys"} <= places <= set(hooks.PARTS)


def test_an_unknown_family_is_refused():
    with pytest.raises(LookupError, match="zero-shot"):
        methods_page("none")
