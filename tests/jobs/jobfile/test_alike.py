"""Job files that differ only in names are validated once, and nothing else tells that they were."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from jobs.errors import SpecError
from jobs.jobfile import alike
from jobs.jobfile.alike import parsed
from jobs.jobfile.spec import JobSpec, parse_spec

BASE: dict[str, Any] = {
    "name": "first",
    "model": {"config": {"model_type": "llama", "hidden_size": 64}, "tokenizer": "org/tokenizer"},
    "data": "org/pairs",
    "training": {"steps": 100},
    "resources": {"labels": {"zone": "a"}, "min_memory": "24GiB"},
}


@pytest.fixture(autouse=True)
def none_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alike, "_known", {})


def as_stored(value: dict[str, Any]) -> dict[str, Any]:
    spec = parse_spec(value)
    return spec.model_dump(mode="json", exclude_unset=True, exclude={"after", "matrix"})


def test_one_of_a_thousand_is_what_it_would_be_by_itself() -> None:
    for value in (
        BASE,
        {**BASE, "name": "second"},
        {**BASE, "name": ""},
        {**BASE, "name": "third", "output": "team/run-1"},
        {**BASE, "name": "fourth", "output": "team/run-2"},
        {key: given for key, given in BASE.items() if key != "name"},
        {**BASE, "after": [1, "other"], "name": "fifth"},
    ):
        spec, stored = parsed(value)
        alone = parse_spec(value)
        assert spec == alone and spec.model_fields_set == alone.model_fields_set
        assert stored == as_stored(value) and list(stored) == list(as_stored(value))


def test_the_rest_is_validated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def counting(value: Any, source: str = "job") -> JobSpec:
        asked.append(value)
        return parse_spec(value, source)

    monkeypatch.setattr(alike, "parse_spec", counting)
    for number in range(1000):
        parsed({**BASE, "name": f"job-{number}", "output": f"team/{number}"})
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("key", "given"),
    [("name", "not a name"), ("name", 5), ("name", None), ("output", "../up"), ("output", ""), ("output", 1)],
)
def test_a_name_that_can_not_be_is_refused_in_the_same_words(key: str, given: Any) -> None:
    parsed({**BASE, "output": "team/run"})
    wrong = {**BASE, "output": "team/run", key: given}
    with pytest.raises(SpecError) as alone:
        parse_spec(wrong)
    with pytest.raises(SpecError) as found:
        parsed(wrong)
    assert found.value.faults == alone.value.faults


def test_values_that_only_python_takes_for_equal_are_not() -> None:
    """1 == 1.0 == True, and 1 is a number of GPUs while True is none."""
    parsed({**BASE, "resources": {"gpus": 1}})
    for wrong in (True, 1.0):
        with pytest.raises(SpecError):
            parsed({**BASE, "resources": {"gpus": wrong}})
    texts = [parsed({**BASE, "resources": {"share": given}})[1] for given in (True, False)]
    assert [one["resources"]["share"] for one in texts] == [True, False]


def test_what_is_wrong_is_never_known(monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        with pytest.raises(SpecError):
            parsed({**BASE, "training": {"steps": 0}})
    assert not alike._known


def test_what_is_known_has_a_bound() -> None:
    for seed in range(3 * alike.MOST):
        parsed({**BASE, "training": {"seed": seed}})
    assert len(alike._known) <= alike.MOST
    large = {**BASE, "resources": {"labels": {f"key-{n}": "x" * 100 for n in range(400)}}}
    parsed(large)
    assert all(len(key) <= alike.MOST_BYTES for key in alike._known)


def test_no_two_files_have_one_key() -> None:
    values: list[Any] = [
        0,
        1,
        True,
        False,
        None,
        1.0,
        "1",
        "",
        [],
        {},
        [1],
        {"a": 1},
        {"a": [1]},
        {"1": 1},
        {1: 1},
    ]
    keys = [alike._key({"training": given}) for given in values]
    assert None not in keys
    assert all(one != other for one, other in itertools.combinations(keys, 2))
