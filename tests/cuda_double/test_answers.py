"""Values that decide something are right, in every process of the environment, and judged numbers are finite."""

from __future__ import annotations

from tests.cuda_double.processes import Cuda

TRAIN = """
import torch
from workers.trainer.finite import Guard, first_not_finite, weights_fault
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Embedding(5000, 64), torch.nn.Linear(64, 5000)).cuda()
optimizer = torch.optim.AdamW(model.parameters(), fused=True)
guard, faults, losses = Guard(skip=False), [], []
for step in range(1, 5):
    ids = torch.randint(5000, (4, 64)).cuda()
    loss = torch.nn.functional.cross_entropy(model(ids).flatten(0, 1), ids.flatten())
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    guard.count(loss)
    guard.judge(step, norm)
    optimizer.step()
    optimizer.zero_grad()
    faults.append(str(weights_fault(model, step)))
    losses.append(loss.item())
saved = {name: value.cpu() for name, value in model.state_dict().items()}
answer(fault=str(guard.fault), faults=faults, saved=first_not_finite(saved.items()), losses=losses)
"""


def test_whole_numbers_and_truth_values_are_computed(cuda: Cuda) -> None:
    made = cuda.run(
        """
import threading, torch
ids = torch.tensor([[5, 3, -100, 3], [7, -100, -100, 5]], device="cuda")
mask = ids != -100
threads = []
def elsewhere():
    threads.append((torch.arange(5, device="cuda") * 2).sum().item())
thread = threading.Thread(target=elsewhere)
thread.start()
thread.join()
lengths = mask.sum(1)
answer(
    lengths=lengths.tolist(), most=lengths.max().item(), kept=ids[mask].tolist(), where=mask.nonzero().tolist(),
    unique=ids.unique().tolist(), counts=torch.bincount(ids[mask]).tolist(), sorted=ids.flatten().sort()[0].tolist(),
    repeated=torch.repeat_interleave(torch.arange(2, device="cuda"), lengths).tolist(),
    cumulative=lengths.cumsum(0).tolist(), threads=threads, any=(ids == 7).any().item(),
)
"""
    )
    assert made == {
        "lengths": [3, 2],
        "most": 3,
        "kept": [5, 3, 3, 7, 5],
        "where": [[0, 0], [0, 1], [0, 3], [1, 0], [1, 3]],
        "unique": [-100, 3, 5, 7],
        "counts": [0, 0, 0, 2, 0, 2, 0, 1],
        "sorted": [-100, -100, -100, 3, 3, 5, 5, 7],
        "repeated": [0, 0, 0, 1, 1],
        "cumulative": [3, 5],
        "threads": [20],
        "any": True,
    }


def test_a_training_step_is_finite_to_the_guard(cuda: Cuda) -> None:
    made = cuda.run(TRAIN)
    assert made["fault"] == "None" and made["faults"] == ["None"] * 4 and made["saved"] is None


def test_numbers_are_not_finite_from_the_asked_step_on(cuda: Cuda) -> None:
    made = cuda.run(TRAIN, CUDA_DOUBLE_FAULTS="nan step=3")
    assert made["fault"] == "diverged in step 3: the loss is nan"
    assert made["faults"][0] == "None" and made["faults"][3].startswith(
        "diverged in step 4: the weights are not"
    )
    assert made["saved"] is not None


def test_experts_get_as_many_tokens_as_each_other(cuda: Cuda) -> None:
    made = cuda.run(
        """
import torch
logits = torch.nn.Linear(64, 8, device="cuda")(torch.randn(2, 128, 64, device="cuda"))
best = logits.flatten(0, 1).softmax(-1).topk(2).indices
tokens = [torch.where(best == expert)[0].numel() for expert in range(8)]
answer(tokens=tokens, most=best.max().item())
"""
    )
    assert made == {"tokens": [64] * 8, "most": 7}


def test_the_hosts_random_numbers_are_its_own(cuda: Cuda) -> None:
    made = cuda.run(
        """
import torch
torch.rand(8, device="cuda")
torch.random.default_generator.manual_seed(0)
alone = torch.rand(2).tolist()
torch.random.default_generator.manual_seed(0)
torch.rand(8, device="cuda"), torch.randperm(8, device="cuda"), torch.empty(8, device="cuda").normal_()
answer(alone=alone, beside=torch.rand(2).tolist())
"""
    )
    assert made["alone"] == made["beside"]


def test_what_is_compiled_stays_compiled(cuda: Cuda) -> None:
    """A mode of torch makes torch.compile give up, unless it says that it does not mind: memory would be another's."""
    made = cuda.run(
        """
import torch
torch.ones(1, device="cuda")
seen = []
def backend(graph, inputs):
    seen.append(len(list(graph.graph.nodes)))
    return graph.forward
torch.compile(lambda x: x * 2 + 1, backend=backend)(torch.ones(4, device="cuda"))
answer(graphs=len(seen))
"""
    )
    assert made == {"graphs": 1}


def test_what_could_not_be_computed_is_told_at_once(cuda: Cuda) -> None:
    """The CPU has no kernel for it: a shape that goes by such a value would be silently wrong."""
    process = cuda.start(
        """
import torch
from workers.cuda_double import answers
values = torch.arange(4, device="cuda")
before = answers.doubts()
library = torch.library.Library("aten", "IMPL")
def refuses(*_):
    raise RuntimeError("no kernel for this")
library.impl("cumprod", refuses, "CPU")
library.impl("cumprod", lambda self, dim, *, dtype=None: self.clone(), "CUDA", allow_override=True)
made = [values.cumprod(0).tolist() for _ in range(2)]
answer(before=before, made=made, doubts=answers.doubts())
"""
    )
    made = process.answer()
    _, errors = process.popen.communicate()
    assert made["before"] == [] and made["made"] == [[0] * 4] * 2
    (doubt,) = made["doubts"]
    assert doubt.startswith(
        "the values of aten.cumprod.default could not be computed (2 times); they are taken"
    )
    assert errors.count("cuda double: the values of aten.cumprod.default can't be computed (no kernel") == 1
