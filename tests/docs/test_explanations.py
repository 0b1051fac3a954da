"""docs/explanations.md names the methods, the papers and the tolerances that the code has."""

import pytest

from tests.docs.markdown import code, read, sections
from traceai.errors import MethodNotOfferedError
from traceai.explain import catalogue, methods
from traceai.inspection.picture import _FULL_COLOUR
from traceai.inspection.replay import GRID_WITHIN, LOGITS_WITHIN

TEXT = read("explanations.md")


def test_every_method_stands_in_the_table_with_its_paper() -> None:
    rows = {row[0].strip("`"): row[-1] for row in sections(TEXT)["The methods"].rows()}
    assert rows == {method.name: method.paper for method in catalogue.METHODS.values()}


def test_the_tolerances_are_those_of_replay() -> None:
    rows = sections(TEXT)["When a replay agrees"].rows()
    assert [float(allowed.split()[0]) for _, allowed in rows] == [LOGITS_WITHIN, GRID_WITHIN]


def test_the_numbers_of_the_methods_are_theirs() -> None:
    body = sections(TEXT)["The methods"].body
    assert f"take {methods.STEPS[0]} steps, doubled up to {methods.STEPS[-1]}" in body
    assert f"at most {methods.COMPLETE_WITHIN:.0%}".replace("%", " %") in body
    assert f"({methods.COMPLETE_BELOW} of a logit" in body
    window, stride = methods.occlusion_window(224, 224)
    assert f"{window} and {stride} pixels" in body
    assert f"strongest {1 - _FULL_COLOUR:.0%}".replace("%", " %") in body


def test_what_is_not_offered_is_refused() -> None:
    body = sections(TEXT)["What is not offered"].body
    for name in ("guided-backprop", "guided-grad-cam"):
        assert f"`--method {name}`" in body
        with pytest.raises(MethodNotOfferedError, match=r"Adebayo et al\. 2018"):
            catalogue.find(name)


def test_the_program_is_python() -> None:
    (program,) = code(TEXT, "python")
    compile(program, "<document>", "exec")
