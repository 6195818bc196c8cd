"""Alert rules and dashboard: promtool reads them, their cases hold, and every metric that they name is exported."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.api.conftest import Yard, yard  # noqa: F401
from tests.api.watching.test_prometheus import names_of

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "grafana"
METRIC = re.compile(r"\btuneyard_[a-z_]+\b")


def expressions() -> list[str]:
    rules = yaml.safe_load((FOLDER / "alerts.yaml").read_text())
    board = json.loads((FOLDER / "dashboard.json").read_text())
    found = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    found += [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    return found + [one["query"] for one in board["templating"]["list"] if one["type"] == "query"]


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed: apt-get install prometheus"
)
@pytest.mark.parametrize(
    "arguments", [("check", "rules", "alerts.yaml"), ("test", "rules", "alerts_test.yaml")]
)
def test_promtool_takes_the_rules_and_their_cases(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(["promtool", *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case() -> None:
    rules = yaml.safe_load((FOLDER / "alerts.yaml").read_text())
    cases = yaml.safe_load((FOLDER / "alerts_test.yaml").read_text())
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    fires = {
        case["alertname"] for test in cases["tests"] for case in test["alert_rule_test"] if case["exp_alerts"]
    }
    assert alerts == fires


def test_every_metric_that_is_named_is_exported(yard: Yard) -> None:  # noqa: F811
    named = {name for one in expressions() for name in METRIC.findall(one)}
    assert named <= names_of(yard), named - names_of(yard)


def test_panels_do_not_lie_on_each_other() -> None:
    board = json.loads((FOLDER / "dashboard.json").read_text())
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
