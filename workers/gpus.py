"""Cards as seen by NVML, or by the operating system for CPU cards."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import psutil
import pynvml

from jobs.errors import Unavailable
from jobs.messages.reports import GpuInfo, GpuSample

log = logging.getLogger(__name__)
T = TypeVar("T")

# Errors that say something about the card. Any other error of an optional reading says that there is no such
# reading with this card, driver or permission, which is no fault of the card.
_CARD_ERRORS = frozenset(
    {
        pynvml.NVML_ERROR_UNINITIALIZED,
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        pynvml.NVML_ERROR_GPU_IS_LOST,
        pynvml.NVML_ERROR_RESET_REQUIRED,
        pynvml.NVML_ERROR_IRQ_ISSUE,
    }
)
_DRIVER_AWAY = frozenset({pynvml.NVML_ERROR_UNINITIALIZED, pynvml.NVML_ERROR_DRIVER_NOT_LOADED})


class Cards(Protocol):
    """What the agent needs of a host's cards, whatever they are."""

    def infos(self) -> list[GpuInfo]:
        """The cards, with the fault that the last sample found."""

    def sample(self, now: float) -> list[GpuSample]:
        """One reading of each card, stamped `now` (Unix seconds). Never raises for one card's fault."""

    def lost(self) -> frozenset[str]:
        """uuids of cards that fell off the bus by the last sample: nothing that runs on them ever goes on."""

    def assign(self, uuid: str, trainers: Mapping[int, int]) -> None:
        """Tell which trainers are on a card now: pid -> bytes that were resident before its first allocation."""

    def close(self) -> None:
        """Let go of the driver."""


def find_cards(host_name: str, cpu_sizes: Sequence[int] | None = None) -> Cards:
    """CPU cards of these sizes (bytes) when asked for, else what NVML shows.

    Raises Unavailable when there is no NVIDIA driver and no CPU card was asked for.
    """
    return CpuCards(host_name, cpu_sizes) if cpu_sizes else CudaCards()


@dataclass
class _CudaCard:
    info: GpuInfo
    handle: Any  # None after the card failed: looked up again by UUID
    lost: bool = False


class CudaCards:
    """NVIDIA cards, through NVML (library nvidia-ml-py). Raises Unavailable when there is no driver."""

    def __init__(self) -> None:
        try:
            pynvml.nvmlInit()
            count = pynvml.nvmlDeviceGetCount()
        except pynvml.NVMLError as error:
            raise Unavailable(
                f"NVML can't be used ({error}): install an NVIDIA driver, or use --cpu-cards 2GiB"
            ) from error
        self._cards: dict[str, _CudaCard] = {}
        self._unseen: set[int] = set(range(count))  # indices whose card could not be read yet
        self._look_for_unseen()

    def infos(self) -> list[GpuInfo]:
        return [card.info for card in sorted(self._cards.values(), key=lambda card: card.info.index)]

    def lost(self) -> frozenset[str]:
        return frozenset(uuid for uuid, card in self._cards.items() if card.lost)

    def assign(self, uuid: str, trainers: Mapping[int, int]) -> None:
        """Nothing to do: NVML knows which process holds what."""

    def close(self) -> None:
        try:
            pynvml.nvmlShutdown()
        except pynvml.NVMLError as error:
            log.warning("NVML shutdown: %s", error)

    def sample(self, now: float) -> list[GpuSample]:
        if self._unseen:
            self._look_for_unseen()
        return [self._sample(card, now) for card in self._cards.values()]

    def _look_for_unseen(self) -> None:
        for index in sorted(self._unseen):
            try:
                handle = pynvml.nvmlDeviceGetHandleByIndex(index)
                info = _describe(handle, index)
            except pynvml.NVMLError as error:
                log.debug("GPU %d can't be read: %s", index, error)
                continue
            self._cards[info.uuid] = _CudaCard(info, handle)
            self._unseen.discard(index)

    def _sample(self, card: _CudaCard, now: float) -> GpuSample:
        uuid, fault = card.info.uuid, None
        card.lost = False
        try:
            if card.handle is None:
                card.handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
            sample = _read(card.handle, uuid, now)
        except pynvml.NVMLError as error:
            card.handle = None
            card.lost = error.value == pynvml.NVML_ERROR_GPU_IS_LOST
            fault = f"NVML: {error}"
            sample = GpuSample(uuid=uuid, ts=now, fault=fault)
            if error.value in _DRIVER_AWAY:
                _start_nvml()
        else:
            fault = _standing_fault(card.handle)
        if fault != card.info.fault:
            log.warning("GPU %d %s: %s", card.info.index, uuid, fault or "answers again")
            card.info = card.info.model_copy(update={"fault": fault})
        return sample


def _start_nvml() -> None:
    """After the driver was reloaded NVML wants to be initialised again."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        log.debug("NVML does not start: %s", error)


def _describe(handle: Any, index: int) -> GpuInfo:
    return GpuInfo(
        uuid=pynvml.nvmlDeviceGetUUID(handle),
        index=index,
        kind="cuda",
        name=pynvml.nvmlDeviceGetName(handle),
        memory_bytes=usable_bytes(handle),
        fault=_standing_fault(handle),
    )


def _standing_fault(handle: Any) -> str | None:
    """A setting that makes the card unusable as a whole card, in words."""
    mode = _optional(lambda: pynvml.nvmlDeviceGetMigMode(handle)[0])
    if mode == pynvml.NVML_DEVICE_MIG_ENABLE:
        return "MIG is enabled: tuneyard uses whole cards (nvidia-smi -mig 0)"
    return None


def _read(handle: Any, uuid: str, now: float) -> GpuSample:
    """Every reading of one card. Raises NVMLError when the card itself fails."""
    power = _optional(lambda: pynvml.nvmlDeviceGetPowerUsage(handle))
    limit = _optional(lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(handle))
    energy = _optional(lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle))
    use = _optional(lambda: pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    return GpuSample(
        uuid=uuid,
        ts=now,
        memory_used_bytes=_memory_used(handle),
        utilization=None if use is None else use / 100,
        power_w=None if power is None else power / 1000,  # NVML: milliwatts
        power_limit_w=None if limit is None else limit / 1000,
        temperature_c=_optional(lambda: pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)),
        sm_clock_mhz=_optional(lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM)),
        memory_clock_mhz=_optional(lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_MEM)),
        energy_j=None if energy is None else energy / 1000,  # NVML: millijoules
        throttle=_throttle(handle),
        ecc_corrected=_ecc(handle, pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED),
        ecc_uncorrected=_ecc(handle, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED),
        process_memory=_process_memory(handle),
    )


def usable_bytes(handle: Any) -> int:
    """What processes can have of the card: what the driver keeps of it for itself CUDA never gives.

    An RTX 4090 has 24,564 MiB by NVML, of which CUDA has 24,210.
    """
    info = _optional(lambda: pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2))
    if info is None:
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)
    return int(info.total - info.reserved)


def _memory_used(handle: Any) -> int:
    """Bytes held by processes.

    The first version of the call counts the driver's own reserve too, so the second, which nvidia-smi shows,
    is asked first. No card lacks the first: any error of it is the card's.
    """
    info = _optional(lambda: pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2))
    return int((info or pynvml.nvmlDeviceGetMemoryInfo(handle)).used)


def _throttle(handle: Any) -> int | None:
    """The bit mask of reasons for lower clocks; drivers before 535 know it by its old name."""
    reasons = _optional(lambda: pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle))
    if reasons is None:
        reasons = _optional(lambda: pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))
    return reasons


def _ecc(handle: Any, kind: int) -> int | None:
    """Errors since the driver was loaded."""
    return _optional(lambda: pynvml.nvmlDeviceGetTotalEccErrors(handle, kind, pynvml.NVML_VOLATILE_ECC))


def _process_memory(handle: Any) -> dict[int, int] | None:
    """pid -> bytes of the compute processes; those whose memory NVML can't tell are left out."""
    found = _optional(lambda: pynvml.nvmlDeviceGetComputeRunningProcesses(handle))
    if found is None:
        return None
    return {int(one.pid): int(one.usedGpuMemory) for one in found if one.usedGpuMemory is not None}


def process_bytes(uuid: str, pid: int) -> int | None:
    """What a process holds of a card, in bytes. None where NVML can't tell, as in a container with pids of its own."""
    try:
        pynvml.nvmlInit()
        try:
            return (_process_memory(pynvml.nvmlDeviceGetHandleByUUID(uuid)) or {}).get(pid)
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return None


def _optional(reading: Callable[[], T]) -> T | None:
    """The reading, or None where this card has none. Raises NVMLError when the card itself fails."""
    try:
        return reading()
    except pynvml.NVMLError as error:
        if error.value in _CARD_ERRORS:
            raise
        return None


@dataclass
class _CpuCard:
    info: GpuInfo
    baselines: dict[int, int] = field(default_factory=dict)  # by pid, in bytes
    processes: dict[int, psutil.Process] = field(default_factory=dict)


class CpuCards:
    """Cards whose memory is a limit on the trainer process, read from the operating system."""

    def __init__(self, host_name: str, sizes: Sequence[int]) -> None:
        """sizes: bytes of each card."""
        self._cores = psutil.cpu_count() or 1
        infos = [
            GpuInfo(uuid=f"cpu-{host_name}-{index}", index=index, kind="cpu", name="cpu", memory_bytes=size)
            for index, size in enumerate(sizes)
        ]
        self._cards = {info.uuid: _CpuCard(info) for info in infos}

    def infos(self) -> list[GpuInfo]:
        return [card.info for card in self._cards.values()]

    def lost(self) -> frozenset[str]:
        return frozenset()

    def assign(self, uuid: str, trainers: Mapping[int, int]) -> None:
        card = self._cards.get(uuid)
        if card is None:
            return
        card.baselines = dict(trainers)
        # A process is kept while it stays on the card: its CPU share is counted from the reading before.
        card.processes = {
            pid: process
            for pid in trainers
            if (process := card.processes.get(pid) or _process(pid)) is not None
        }

    def close(self) -> None:
        """Nothing is held."""

    def sample(self, now: float) -> list[GpuSample]:
        return [self._sample(card, now) for card in self._cards.values()]

    def _sample(self, card: _CpuCard, now: float) -> GpuSample:
        resident: dict[int, int] = {}
        share = 0.0
        for pid, process in card.processes.items():
            try:
                resident[pid] = process.memory_info().rss
                share += process.cpu_percent() / 100 / self._cores
            except psutil.Error:  # it ended; the agent takes it off the card
                continue
        used = sum(max(0, size - card.baselines[pid]) for pid, size in resident.items())
        return GpuSample(
            uuid=card.info.uuid,
            ts=now,
            memory_used_bytes=used,
            utilization=min(1.0, share),
            process_memory=resident,
        )


def _process(pid: int) -> psutil.Process | None:
    try:
        process = psutil.Process(pid)
        process.cpu_percent()  # the first call starts the measurement
    except psutil.Error:
        return None
    return process
