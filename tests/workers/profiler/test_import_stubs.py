"""workers/profiler/emulation/import_stubs.py: a process that only traces leaves out bitsandbytes, pandas and
datasets, and comes to the same.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs.jobfile.spec import JobSpec
from jobs.messages.reports import TraceRequest
from workers.profiler.trace import answer

_CHILD = """
import json, sys
from pathlib import Path
from typing import Any
from jobs.messages.reports import TraceRequest
from workers.profiler.__main__ import profiled
request = TraceRequest.model_validate_json(Path(sys.argv[1]).read_text())
done = profiled(request)
loaded = [name for name in ("bitsandbytes", "pandas", "datasets", "pyarrow") if name in sys.modules]
import datasets
rows = len(datasets.Dataset.from_list([{"text": "a"}]))
Path(sys.argv[2]).write_text(json.dumps({"done": done.model_dump(), "loaded": loaded, "rows": rows}))
"""


_SMALL = {"hidden_size": 192, "num_attention_heads": 6, "num_hidden_layers": 4, "vocab_size": 4001}
LLAMA = {**_SMALL, "model_type": "llama", "intermediate_size": 448, "num_key_value_heads": 2}
# Its code picks keys by a list, of which torch makes a tensor by way of a module that only a lean trace lacks.
FALCON = {**_SMALL, "model_type": "falcon", "alibi": False}
GEMMA = {**LLAMA, "model_type": "gemma3_text", "head_dim": 32, "sliding_window": 128}


@pytest.mark.parametrize(
    ("config", "method"), [(LLAMA, "full"), (LLAMA, "qlora"), (FALCON, "qlora"), (GEMMA, "lora")]
)
def test_a_lean_trace_comes_to_the_same_profile(tmp_path: Path, config: dict[str, Any], method: str) -> None:
    """And what it left out can be imported afterwards: the scan of the data needs it."""
    spec = JobSpec.model_validate(
        {"model": {"config": config, "tokenizer": "none"}, "data": "none", "method": method}
    )
    request = TraceRequest(key="lean", spec=spec)
    asked, answered = tmp_path / "request.json", tmp_path / "result.json"
    asked.write_text(request.model_dump_json())
    subprocess.run([sys.executable, "-c", _CHILD, str(asked), str(answered)], check=True, timeout=150)
    found = json.loads(answered.read_text())
    assert found["done"]["error"] is None
    assert found["loaded"] == []
    assert found["rows"] == 1
    here = answer(request).profile
    assert here is not None
    assert found["done"]["profile"] == json.loads(json.dumps(here))
