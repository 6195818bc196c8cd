"""Lists as people ask for them, and a sweep as a table: through the API."""

from __future__ import annotations

import pytest

from jobs.state import Outcome
from tests.api.scheduling.test_early_stop import lines
from tests.api.scheduling.test_scheduling import FakeHost, card, end

PREFIX = "/api/v1"


def test_a_sweep_is_told_best_first_by_what_differs(yard):
    host = FakeHost(yard, *(card(number, 2) for number in range(5)))
    rates = [n * 1e-4 for n in range(1, 7)]
    yard.submit(name="lr", output="lr", matrix={"training.learning_rate": rates}, training={"seed": 7})
    host.trace()
    losses = {1: 2.0, 2: 1.0, 3: None, 4: 0.5, 5: 9.0}
    host.report(attempts=[lines(n, 20, loss) for n, loss in losses.items()])
    host.report(attempts=end(4, 1, Outcome.TIMEOUT))
    yard.tick()
    table = yard.http.get(f"{PREFIX}/groups/lr").json()
    assert (table["id"], table["name"]) == (1, "lr")
    assert table["keys"] == ["training.learning_rate"], "names and output folders differ always"
    assert [(member["job"]["id"], member["job"]["state"]) for member in table["members"]] == [
        (2, "running"),
        (1, "running"),
        (5, "running"),
        (6, "running"),  # on the card of the one that failed; no loss yet
        (4, "failed"),  # though of the least loss
        (3, "running"),  # its loss is no number any more
    ]
    assert [member["values"] for member in table["members"][:2]] == [
        {"training.learning_rate": rates[1]},
        {"training.learning_rate": rates[0]},
    ]
    assert yard.http.get(f"{PREFIX}/groups/1").json() == table
    assert yard.http.get(f"{PREFIX}/groups/2").status_code == 404
    refused = yard.http.get(f"{PREFIX}/jobs/lr")
    assert refused.status_code == 404 and "tuneyard list lr" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("sort=colour", "use id, name"),
        ("sort=loss&before=3", "use offset"),
        ("offset=-1", "offset"),
        ("since=nan", "since"),
        ("since=x", "since"),
        ("state=gone", "state"),
    ],
)
def test_a_fault_of_a_query_is_named(yard, query, named):
    answer = yard.http.get(f"{PREFIX}/jobs?{query}")
    assert answer.status_code == 422 and named in answer.json()["error"]["message"]


def test_a_list_is_filtered_and_sorted_by_the_server(yard):
    for name, priority in (("b", "low"), ("a", "high"), ("c", "normal")):
        yard.submit(name=name, priority=priority)
        yard.now += 60

    def names(query: str) -> list[str]:
        return [job["name"] for job in yard.http.get(f"{PREFIX}/jobs?{query}").json()["jobs"]]

    assert names("") == ["c", "a", "b"]
    assert names("sort=name") == ["a", "b", "c"]
    assert names("sort=-priority&limit=2") == ["a", "c"]
    assert names("sort=-priority&limit=2&offset=2") == ["b"]
    assert names(f"since={yard.now - 130}") == ["c", "a"]
    assert names("user=ada&name=[ab]") == ["a", "b"]
    assert names("user=nobody") == []
