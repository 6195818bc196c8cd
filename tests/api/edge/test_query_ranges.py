"""Numbers among the parameters of a request: a refusal names the parameter, what was given and the whole range."""

import pytest

from orchestrator.api.app import PREFIX


@pytest.mark.parametrize(
    ("query", "given", "fix"),
    [
        ("jobs?limit=0", "0", "write a whole number from 1 to 1000"),
        ("jobs?limit=1001", "1001", "write a whole number from 1 to 1000"),
        ("jobs?limit=many", "many", "write a whole number from 1 to 1000"),
        ("jobs?before=-1", "-1", "write a whole number from 0 to 2147483647 (the id of a job)"),
        (
            "jobs?before=2147483648",
            "2147483648",
            "write a whole number from 0 to 2147483647 (the id of a job)",
        ),
        ("jobs?offset=-1", "-1", "write a whole number from 0 to 2147483647 (rows to pass over)"),
        ("jobs?since=inf", "inf", "write a number (Unix seconds)"),
        ("jobs/1/logs?limit=0", "0", "write a whole number from 1 to 4194304 (bytes)"),
        ("jobs/1/metrics?every=0", "0", "write a whole number from 1"),
        ("jobs/1/result/files?manifest=ab&offset=-1", "-1", "write a whole number from 0"),
        (
            "audit?before=9223372036854775808",
            "9223372036854775808",
            "write a whole number from 0 to 9223372036854775807",
        ),
        ("history?limit=0", "0", "write a whole number from 1 to "),
    ],
)
def test_a_number_out_of_range_is_refused_with_the_range(yard, query, given, fix):
    yard.submit(name="a")
    answer = yard.http.get(f"{PREFIX}/{query}")
    assert answer.status_code == 422, answer.text
    (fault,) = answer.json()["error"]["faults"]
    name = query.partition("?")[2].rpartition("&")[2].partition("=")[0]
    assert (fault["path"], fault["given"], fault["problem"]) == (name, given, "is not usable")
    assert fault["fix"].startswith(fix)
    assert fix in answer.json()["error"]["message"]


def test_every_fault_of_a_query_is_named(yard):
    answer = yard.http.get(f"{PREFIX}/jobs?limit=0&offset=-1&since=nan")
    assert [fault["path"] for fault in answer.json()["error"]["faults"]] == ["limit", "since", "offset"]
