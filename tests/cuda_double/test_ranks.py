"""Several processes of one host over NCCL: what they give each other arrives, DDP and FSDP train."""

from __future__ import annotations

from typing import Any

from tests.cuda_double.processes import Cuda

BEGIN = """
import torch, torch.distributed as dist
rank = int(os.environ["RANK"])
dist.init_process_group("nccl", init_method="file://" + os.environ["MEET"], rank=rank, world_size=2)
"""


def ranks(cuda: Cuda, code: str) -> list[dict[str, Any]]:
    """The first answers of two ranks, each on a card of its own."""
    cuda.cards = "rtx4090,rtx4090"
    meet = {"MEET": str(cuda.folder / "meet")}
    started = [
        cuda.start(BEGIN + code, RANK=str(rank), CUDA_VISIBLE_DEVICES=str(rank), **meet) for rank in (0, 1)
    ]
    made: list[dict[str, Any]] = []
    errors = []
    for process in started:
        try:
            made.append(process.answer())
        except AssertionError as error:
            errors.append(str(error))
    assert not errors, "\n".join(errors)
    return made


def test_what_ranks_give_arrives(cuda: Cuda) -> None:
    made = ranks(
        cuda,
        """
def card(*values, kind=torch.float32): return torch.tensor(values, dtype=kind, device="cuda")
seen = {}
for kind in (torch.float32, torch.bfloat16, torch.float16, torch.int64):
    for op in ("SUM", "MAX", "MIN", "AVG"):
        values = card(2 + 4 * rank, 8 - 6 * rank, kind=kind)
        dist.all_reduce(values, getattr(dist.ReduceOp, op))
        seen[f"{kind} {op}"] = values.tolist()
values = card(rank + 1)
dist.broadcast(values, 1)
seen["broadcast"] = values.tolist()
values = torch.arange(100_000, device="cuda") * rank  # 0.8 MB: several pieces
dist.broadcast(values, 1)
seen["pieces"] = values.sum().item()
out = torch.empty(4, dtype=torch.int64, device="cuda")
dist.all_gather_into_tensor(out, card(rank, 10 + rank, kind=torch.int64))
seen["gather"] = out.tolist()
out = torch.empty(2, dtype=torch.int64, device="cuda")
dist.reduce_scatter_tensor(out, card(1, 2, 3, 4, kind=torch.int64) * (rank + 1))
seen["scatter"] = out.tolist()
dist.all_to_all_single(out, card(10 * rank, 10 * rank + 1, kind=torch.int64))
seen["all to all"] = out.tolist()
objects = [None, None]
dist.all_gather_object(objects, {"rank": rank, "name": "x" * 3000})
seen["objects"] = [one["rank"] for one in objects]
if rank: dist.send(card(7, 8), 0)
else:
    values = card(0, 0)
    dist.recv(values, 1)
    seen["received"] = values.tolist()
ring = card(0)
there = dist.P2POp(dist.isend, card(rank + 5), 1 - rank)
for work in dist.batch_isend_irecv([there, dist.P2POp(dist.irecv, ring, 1 - rank)]):
    work.wait()
seen["ring"] = ring.tolist()
alone = [dist.new_group([0]), dist.new_group([1])][rank]
values = card(rank + 1)
dist.all_reduce(values, group=alone)
seen["alone"] = values.tolist()
dist.barrier()
answer(**seen)
""",
    )
    received = [one.pop("received", None) for one in made]
    assert received == [[7, 8], None]
    assert [one.pop("pieces") for one in made] == [99_999 * 50_000] * 2
    assert [one.pop("scatter") for one in made] == [[3, 6], [9, 12]]
    assert [one.pop("all to all") for one in made] == [[0, 10], [1, 11]]
    assert [one.pop("ring") for one in made] == [[6], [5]]
    assert [one.pop("alone") for one in made] == [[1], [2]]
    kinds = ("torch.float32", "torch.bfloat16", "torch.float16", "torch.int64")
    expected: dict[str, Any] = {f"{kind} SUM": [8, 10] for kind in kinds}
    expected |= {f"{kind} MAX": [6, 8] for kind in kinds} | {f"{kind} MIN": [2, 2] for kind in kinds}
    expected |= {f"{kind} AVG": [4, 5] for kind in kinds}
    expected |= {"broadcast": [2], "gather": [0, 10, 1, 11], "objects": [0, 1]}
    assert made == [expected, expected]


def test_a_model_trains_on_two_ranks(cuda: Cuda) -> None:
    """DDP, which checks that ranks have the same model, and both kinds of FSDP."""
    made = ranks(
        cuda,
        """
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.nn.parallel import DistributedDataParallel
def model(): return torch.nn.Sequential(torch.nn.Linear(512, 2048), torch.nn.ReLU(), torch.nn.Linear(2048, 512)).cuda()
def sharded():
    whole = model()
    for layer in whole: fully_shard(layer)
    return fully_shard(whole)
kept, norms = {}, {}
kinds = {"ddp": lambda: DistributedDataParallel(model(), device_ids=[0]),
         "fsdp": lambda: FullyShardedDataParallel(model()), "fsdp2": sharded}
for name, make in kinds.items():
    wrapped = make()
    optimizer = torch.optim.AdamW(wrapped.parameters())
    for _ in range(2):
        wrapped(torch.randn(8, 512, device="cuda")).sum().backward()
        norms[name] = float(torch.nn.utils.clip_grad_norm_(wrapped.parameters(), 1.0))
        optimizer.step()
        optimizer.zero_grad()
    kept[name] = sum(one.numel() for state in optimizer.state.values() for one in state.values() if one.dim())
    torch.cuda.synchronize()
dist.barrier()
answer(states=kept, norms=list(norms))
""",
    )
    parameters = 512 * 2048 * 2 + 2048 + 512
    for one in made:
        assert one["norms"] == ["ddp", "fsdp", "fsdp2"]
        assert one["states"]["ddp"] == 2 * parameters and one["states"]["fsdp"] == parameters


def test_ranks_that_disagree_are_told(cuda: Cuda) -> None:
    made = ranks(
        cuda,
        """
try:
    dist.all_reduce(torch.ones(4 + rank, device="cuda"))
    answer(error="")
except dist.DistBackendError as raised:
    answer(error=str(raised))
""",
    )
    assert "rank 0 calls ncclAllReduce of 4 items" in made[0]["error"]
    assert "rank 0 ncclAllReduce of 4" in made[1]["error"]


def test_a_rank_that_died_does_not_hold_up_the_others(cuda: Cuda) -> None:
    made = ranks(
        cuda,
        """
dist.all_reduce(torch.ones(1, device="cuda"))
if rank:
    answer(error="")
    os._exit(1)
try:
    dist.all_reduce(torch.ones(1, device="cuda"))
    answer(error="none")
except dist.DistBackendError as raised:
    answer(error=str(raised))
""",
    )
    assert "rank 1 (process" in made[0]["error"] and "has ended" in made[0]["error"]
