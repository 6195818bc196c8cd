"""The page: HTML with its style inside and no script, everything that others wrote escaped. Pure."""

from __future__ import annotations

import time
from typing import Any

from jobs.units import GiB, counted, gib, span
from orchestrator.cli.render import words
from orchestrator.cli.render.plot_style import DARK, LIGHT, PARTS, Theme, part_name
from orchestrator.cli.report.facts import Facts
from orchestrator.cli.report.svg import Series, chart, memory, text

EVENTS_SHOWN = 200
# No script, no request to anywhere: whatever a name or a message holds, a browser only draws it.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
STYLE = """
*{box-sizing:border-box}
body{margin:0 auto;max-width:1200px;padding:28px 24px 60px;background:var(--back);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
h1{font-size:26px;margin:0 0 2px;overflow-wrap:anywhere}h2{font-size:18px;margin:36px 0 10px}
p{margin:4px 0}.faint{color:var(--faint)}
.state{display:inline-block;padding:1px 10px;border-radius:10px;border:1.5px solid currentColor;
font-weight:600;font-size:15px;vertical-align:5px}
.succeeded{color:var(--good)}.failed{color:var(--bad)}.running{color:var(--plain)}
.figures{display:flex;flex-wrap:wrap;gap:10px 36px;margin:18px 0}
.figures div{min-width:90px}.figures b{display:block;font-size:21px;font-weight:600}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,430px),1fr));gap:18px 28px}
figure{margin:0}figcaption{font-weight:600}.unit{color:var(--faint);font-weight:400;margin-left:8px}
svg{width:100%;height:auto;display:block;overflow:visible}
svg text{font:12px system-ui,sans-serif;fill:var(--ink)}svg .tick,svg .axis{fill:var(--faint)}
.grid{stroke:var(--grid)}.line{fill:none;stroke-width:1.8;stroke-linejoin:round}
.first{stroke:var(--plain)}.second{stroke:var(--bad)}
.dot.first,.name.first{fill:var(--plain);stroke:none}.dot.second,.name.second{fill:var(--bad);stroke:none}
svg .name{font-weight:600}.level{stroke:var(--mark);stroke-width:1.5;stroke-dasharray:5 4}
svg .levelname{fill:var(--mark)}.measured{fill:var(--plain)}svg .inbar{fill:#fff;font-weight:600}
svg .inbar.dark{fill:#10151a}svg .inbar.own{fill:var(--back)}
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:4px 18px 4px 0;vertical-align:top;border-bottom:1px solid var(--grid)}
th{color:var(--faint);font-weight:500}th,td{white-space:nowrap}
td:last-child{white-space:normal;overflow-wrap:anywhere;min-width:90px}td.right,th.right{text-align:right}
.swatch{display:inline-block;width:11px;height:11px;margin-right:8px;border-radius:2px}
pre{background:var(--box);padding:14px 16px;overflow-x:auto;border-radius:6px;font:13px/1.45 ui-monospace,monospace}
@media print{body{max-width:none}}
"""


def page(facts: Facts, job_file: str) -> str:
    """The report. job_file: its spec as YAML."""
    job = facts.job
    light, dark = _variables(LIGHT, "#f3f5f7"), _variables(DARK, "#1d242c")
    style = (
        f":root{{color-scheme:light dark;{light}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}{STYLE}"
    )
    body = [
        _head(facts),
        _memory(facts),
        _charts(facts),
        _attempts(facts),
        _reproduce(facts, job_file),
        _events(facts),
    ]
    made = time.strftime("%Y-%m-%d %H:%M %Z", time.localtime(facts.now))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{text(facts.label)}, {text(job['state'])}</title><style>{style}</style></head><body><main>"
        + "".join(body)
        + f'</main><p class="faint">Made by <code>tuneyard report {job["id"]}</code>, {text(made)}.</p></body></html>\n'
    )


def _variables(theme: Theme, box: str) -> str:
    names = ("back", "ink", "faint", "grid", "good", "bad", "plain", "mark")
    return "".join(f"--{name}:{getattr(theme, name)};" for name in names) + f"--box:{box};"


def _head(facts: Facts) -> str:
    job, attempt = facts.job, facts.attempt
    named = job["name"] or f"job {job['id']}"
    about = f"job {job['id']}: {job['method']} of {job['model']}, by {job['user']} in {job['project']}"
    where = f" on {', '.join(job['hosts'])} ({words.cards(job['cards'])})" if job["hosts"] else ""
    said = words.sentence(job, facts.now)
    began, ended = job["started_at"], job["ended_at"]
    device, projected = facts.measured("device_bytes"), facts.projected("device_bytes")
    progress = job["progress"]
    figures = [
        ("steps", f"{progress['step']:,} of {progress['total_steps']:,}" if progress else ""),
        ("loss", words.loss(progress) if progress else ""),
        ("peak on the card", words.size(device)),
        ("projected", words.size(projected)),
        ("error", words.share(device / projected - 1) if device and projected else ""),
        ("tokens/s", f"{facts.measured('tokens_per_s'):,.0f}" if facts.measured("tokens_per_s") else ""),
        ("step time", words.duration(facts.measured("step_s"))),
        ("took", span((ended or facts.now) - began) if began else ""),
        ("attempts", str(job["attempts"]) if job["attempts"] else ""),
        ("checkpointing", attempt["rung"]["label"] if attempt and attempt["rung"] else ""),
    ]
    shown = "".join(
        f'<div><span class="faint">{text(k)}</span><b>{text(v)}</b></div>' for k, v in figures if v
    )
    return (
        f'<h1>{text(named)} <span class="state {text(job["state"])}">{text(job["state"])}</span></h1>'
        f'<p class="faint">{text(about)}{text(where)}</p><p>{text(said)}</p><div class="figures">{shown}</div>'
    )


def _memory(facts: Facts) -> str:
    parts, device = facts.parts, facts.measured("device_bytes")
    attempt = facts.attempt
    if not parts and not device:
        return '<h2>Memory</h2><p class="faint">No attempt was planned yet.</p>'
    card = attempt["card_bytes"] if attempt else None
    upper = facts.projected("upper_bytes")
    rows = [
        f'<tr><td><span class="swatch" style="background:{PARTS.get(name, "#888888")}"></span>'
        f"{text(part_name(name))}</td>"
        f'<td class="right">{gib(size)}</td></tr>'
        for name, size in parts.items()
    ]
    compared = "".join(
        f'<tr><td>{label}</td><td class="right">{words.size(facts.projected(name))}</td>'
        f'<td class="right">{words.size(facts.measured(name))}</td></tr>'
        for label, name in (
            ("live tensors (allocated)", "allocated_bytes"),
            ("held by the allocator (reserved)", "reserved_bytes"),
            ("on the card", "device_bytes"),
            ("upper bound", "upper_bytes"),
        )
    )
    return (
        f"<h2>Memory, projected and measured</h2>{memory(parts, device, upper, card)}"
        '<div class="charts"><div class="wide"><table><tr><th>part</th><th class="right">projected</th></tr>'
        f'{"".join(rows)}</table></div><div class="wide"><table><tr><th></th><th class="right">projected</th>'
        f'<th class="right">measured</th></tr>{compared}</table></div></div>'
    )


def _charts(facts: Facts) -> str:
    levels = [
        (size / GiB, f"{name} {gib(size)}")
        for size, name in (
            (facts.projected("device_bytes"), "projected"),
            (facts.projected("upper_bytes"), "upper bound"),
        )
        if size
    ]
    drawn = [
        chart(
            "Loss", "cross-entropy, nats a token",
            [Series("training", facts.curve("loss")), Series("evaluation", facts.curve("eval_loss"), "second", True)],
        ),
        chart("Peak memory on the card so far", "GiB", [Series("measured", facts.curve("device_bytes", GiB))], levels),
        chart("Speed", "tokens/s", [Series("tokens/s", facts.curve("tokens_per_s"))]),
        chart("Learning rate", "", [Series("learning rate", facts.curve("learning_rate"))]),
    ]  # fmt: skip
    shown = "".join(drawn)
    told = ""
    if nowhere := facts.not_finite:
        steps = counted(len(nowhere), "step")
        told = f'<p class="failed">The loss was no number at {steps}, first at step {nowhere[0]:,}.</p>'
    if not shown:
        return f'<h2>Curves</h2><p class="faint">It told of no step.</p>{told}'
    return f'<h2>Curves</h2>{told}<div class="charts">{shown}</div>'


def _table(titles: list[str], rows: list[list[Any]]) -> str:
    head = "".join(f"<th>{text(one)}</th>" for one in titles)
    body = "".join("<tr>" + "".join(f"<td>{text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _when(ts: float | None) -> str:
    return "" if ts is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ts))


def _attempts(facts: Facts) -> str:
    rows = [
        [
            *(one["number"], ", ".join(one["hosts"]), words.cards([gpu["name"] for gpu in one["gpus"]])),
            one["rung"]["label"] if one["rung"] else "",
            *(one["outcome"] or "runs", "" if one["steps"] is None else f"{one['steps']:,}"),
            *(_when(one["started_at"]), _when(one["ended_at"]), one["message"] or ""),
        ]
        for one in facts.job["attempts_detail"]
    ]
    titles = ["#", "hosts", "cards", "checkpointing", "outcome", "steps", "began", "ended", "message"]
    return "<h2>Attempts</h2>" + (_table(titles, rows) if rows else '<p class="faint">None yet.</p>')


def _reproduce(facts: Facts, job_file: str) -> str:
    libraries: dict[str, set[str]] = {}
    for host in facts.hosts:
        for name, version in {**host["stack"], "tuneyard (host)": host["version"]}.items():
            libraries.setdefault(name, set()).add(str(version))
    rows = [
        ["tuneyard (server)", facts.server],
        *([n, ", ".join(sorted(v))] for n, v in sorted(libraries.items())),
    ]
    data = facts.job["data"]
    told = f"<p>Data: {data['rows']:,} rows, {data['mean']:,.0f} tokens a row on average.</p>" if data else ""
    file = "".join(text(line) + "\n" for line in job_file.splitlines())
    return (
        "<h2>How to reproduce it</h2><p>Save this as <code>job.yaml</code> and run "
        "<code>tuneyard submit job.yaml</code> with the versions below.</p>"
        f"{told}<pre>{file}</pre><h2>Versions</h2>{_table(['library', 'version'], rows)}"
    )


def _events(facts: Facts) -> str:
    found = facts.job["events"]
    rows = [
        [_when(one["ts"]), one["attempt"] or "", one["kind"], one["by"] or "", one["text"]]
        for one in found[-EVENTS_SHOWN:]
    ]
    left = (
        f'<p class="faint">The last {EVENTS_SHOWN} of {len(found):,}.</p>'
        if len(found) > EVENTS_SHOWN
        else ""
    )
    return f"<h2>Events</h2>{left}{_table(['when', 'attempt', 'event', 'by', 'what'], rows)}"
