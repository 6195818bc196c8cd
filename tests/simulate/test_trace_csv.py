"""Traces in CSV files: what is read, and how each fault is named."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from jobs.cards import find_card
from jobs.errors import SpecError, UsageError
from orchestrator.simulate.trace_csv import MAX_FAULTS, load_trace, read_trace

HEADER = "submit_s,duration_s,gpus"
PUBLISHED = Path(__file__).resolve().parents[3] / "shared" / "traces"


def read(*rows: str, header: str = HEADER, where: tuple[tuple[str, str], ...] = ()):
    return read_trace([header + "\n", *(row + "\n" for row in rows)], "t.csv", where)


def faults(*rows: str, header: str = HEADER) -> list[str]:
    with pytest.raises(SpecError) as caught:
        read(*rows, header=header)
    assert caught.value.source == "t.csv"
    return [str(fault) for fault in caught.value.faults]


def test_three_columns_are_enough():
    first, second = read("0,60,1", "5.5,10,8").jobs
    assert (first.job_id, first.submit_s, first.duration_s, first.gpus) == (1, 0.0, 60.0, 1)
    assert (first.user, first.project, first.pool, first.priority) == ("", "default", "", 50)
    assert (second.job_id, second.submit_s, second.gpus) == (2, 5.5, 8)


def test_every_column_of_ours():
    header = "job_id,submit_s,duration_s,gpus,user,project,pool,priority"
    (job,) = read("7,0,60,2,ada,vision,west,high", header=header).jobs
    assert (job.job_id, job.user, job.project, job.pool, job.priority) == (7, "ada", "vision", "west", 75)


def test_a_job_belongs_to_the_project_of_its_pool_where_none_is_named():
    (job,) = read("0,60,2,west", header=HEADER + ",pool").jobs
    assert job.project == "west"


def test_seconds_by_card():
    header = HEADER + ",seconds_on_h100,seconds_on_rtx4090"
    both, one = read("0,60,1,60,150", "0,60,1,60,", header=header).jobs
    h100, small = find_card("h100").name, find_card("rtx4090").name
    assert both.seconds_by_card == ((h100, 60.0), (small, 150.0))
    assert one.seconds_by_card == ((h100, 60.0),)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (("0,60,x",), "line 2, gpus: is no such number (given: x); write a whole number from 1"),
        (("0,60,0",), "line 2, gpus: is no such number (given: 0); write a whole number from 1"),
        (("0,60,1.5",), "line 2, gpus: is no such number (given: 1.5); write a whole number from 1"),
        (("0,-3,1",), "line 2, duration_s: is negative (given: -3); write seconds more than 0"),
        (("0,0,1",), "line 2, duration_s: is nothing (given: 0); write seconds more than 0"),
        (("0,nan,1",), "line 2, duration_s: is not a number (given: nan); write seconds more than 0"),
        (("inf,60,1",), "line 2, submit_s: is not a number (given: inf); write seconds from 0"),
        (("-1,60,1",), "line 2, submit_s: is negative (given: -1); write seconds from 0"),
        ((",60,1",), "line 2, submit_s: is not a number; write seconds from 0"),
        (
            ("9,60,1", "4,60,1"),
            "line 3, submit_s: is out of order (given: 4, after 9 in line 2); sort the rows by it",
        ),
        (
            ("0,60",),
            "line 2: has 2 cells, the header 3 (given: 0,60); quote a cell that holds a comma",
        ),
    ],
)
def test_a_fault_names_line_column_value_and_what_would_do(rows: tuple[str, ...], said: str):
    assert faults(*rows) == [said]


def test_lines_are_those_of_the_file():
    assert faults("0,60,1", "", "", "5,60,x")[0].startswith("line 5, gpus")


def test_every_fault_at_once_up_to_a_limit():
    assert len(faults("0,a,1", "x,60,1", "0,60,-1")) == 3
    many = faults(*(f"{i},60,x" for i in range(100)))
    assert len(many) == MAX_FAULTS + 1
    assert "may be more" in many[-1]


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (
            "submit_s,duration_s,gpu",
            ["unknown column (given: gpu); did you mean gpus?", "has no column gpus"],
        ),
        ("submit_s,duration_s,gpus,colour", ["unknown column (given: colour); remove it; known are job_id"]),
        ("submit_s,gpus", ["has no column duration_s (given: submit_s,gpus); add it"]),
        ("submit_s,duration_s,gpus,gpus", ["stands twice (given: gpus)"]),
        ("submit_s,duration_s,gpus,seconds_on_h1000", ["no column of a card", "did you mean"]),
        ("", ["there is no header"]),
        ("submit_s;duration_s;gpus", ["has ';' between its columns", "separate them by commas"]),
    ],
)
def test_a_header_that_is_none(header: str, said: list[str]):
    found = "\n".join(faults("0,60,1", header=header))
    assert "line 1" in found
    for text in said:
        assert text in found


def test_ids_and_priorities():
    header = "job_id," + HEADER + ",priority"
    assert "stands twice" in faults("1,0,60,1,low", "1,0,60,1,low", header=header)[0]
    (said,) = faults("1,0,60,1,urgent", header=header)
    assert said.startswith(
        "line 2, priority: is no priority (given: urgent); write low, normal, high, a whole"
    )
    (said,) = faults("1,0,60,1,low:90", header=header)
    assert said == "line 2, priority: is outside its class (given: low:90); low goes from 0 to 37"
    assert "line 2, priority" in faults("1,0,60,1,101", header=header)[0]


def test_a_job_that_fits_no_card():
    assert "fits no card" in faults("0,60,1,", header=HEADER + ",seconds_on_h100")[0]


def test_the_columns_of_venus():
    header = "job_id,submit_s,duration_s,num_gpus,num_cpus,user,vc,status"
    trace = read("765472,3,97,1,1,ucpfn,vcEwI,COMPLETED", header=header)
    (job,) = trace.jobs
    assert (job.job_id, job.gpus, job.user, job.pool, job.project) == (765472, 1, "ucpfn", "vcEwI", "vcEwI")
    assert "CC BY 4.0" in trace.credit


RUBICK = "trace,name,submission_time,duration,application,num_gpus,num_cpus,bandwidth,exec_plan,steps,is_sla"


def test_one_of_several_traces_is_taken():
    rows = ("base,vit-0,5,31.5,vit,2,16,0.0,zero-dp,37239,0", "bp,vit-0,0,20,vit,2,16,0.0,zero-dp,37239,0")
    (job,) = read(*rows, header=RUBICK, where=(("trace", "bp"),)).jobs
    assert (job.submit_s, job.duration_s, job.gpus) == (0.0, 20.0, 2)
    (said,) = faults(*rows, header=RUBICK)
    assert said.startswith("line 3, trace") and said.endswith("--where trace=base")


def test_titan_is_refused_with_the_reason():
    header = (
        "trace,name,submission_time,application,num_gpus,target_batch_size,target_lr,target_gradient_steps"
    )
    with pytest.raises(UsageError, match="no durations"):
        read("a,b,0,c,1,64,0.1,4,0.9", header=header + ",target_metric")


def test_a_condition_on_a_column_that_is_not_there():
    with pytest.raises(UsageError, match="no column 'color'; it has submit_s"):
        read("0,60,1", where=(("color", "red"),))


def test_a_trace_without_jobs():
    with pytest.raises(UsageError, match="holds no job"):
        read()
    with pytest.raises(UsageError, match="holds no job with gpus=9"):
        read("0,60,1", where=(("gpus", "9"),))


def test_gzip_and_a_byte_order_mark(tmp_path: Path):
    text = "\ufeff" + HEADER + "\r\n0,60,1\r\n"
    for name, data in (("a.csv", text.encode()), ("a.csv.gz", gzip.compress(text.encode()))):
        path = tmp_path / name
        path.write_bytes(data)
        assert len(load_trace(path).jobs) == 1


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (gzip.compress(HEADER.encode() * 99, mtime=0)[:-9], "damaged gzip"),
        (b"submit_s,duration_s,gpus\n0,60,\xff\n", "not text in UTF-8"),
        (b"", "there is no header"),
        (b'submit_s,duration_s,gpus\n0,60,"1\n', "not readable as CSV"),
    ],
)
def test_a_file_that_is_no_text(tmp_path: Path, data: bytes, said: str):
    path = tmp_path / "bad.csv"
    path.write_bytes(data)
    with pytest.raises((UsageError, SpecError), match=said):
        load_trace(path)


def test_a_file_that_is_not_there(tmp_path: Path):
    with pytest.raises(UsageError, match=r"gone\.csv can't be read: No such file"):
        load_trace(tmp_path / "gone.csv")


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"the published traces are not in {PUBLISHED}")
def test_the_published_files():
    venus = load_trace(PUBLISHED / "venus_sept2020.csv.gz").jobs
    assert len(venus) == 23_859
    assert round(sum(job.duration_s for job in venus) / len(venus)) == 11_769
    assert len(load_trace(PUBLISHED / "rubick_llm_train.csv.gz", [("trace", "mt")]).jobs) == 406
    with pytest.raises(UsageError, match="no durations"):
        load_trace(PUBLISHED / "titan_fm_finetune.csv.gz")
