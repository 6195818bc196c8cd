"""The dispatcher of a server that may lead: none while it stands by, another each time that it leads."""

from __future__ import annotations

from orchestrator.control.leader.led_dispatch import LedDispatch
from tests.dispatch.conftest import Under, until


def test_it_runs_while_its_server_leads(under: Under) -> None:
    led = LedDispatch(lambda: under.made("well"))
    assert (led.address, led.generation, led.start(1, [])) == (None, 0, False)
    assert led.state().trouble == "" and not led.state().ready
    generations = []
    for _ in range(2):
        led.open()
        led.open()  # it does already
        until(lambda: led.state().ready, "a dispatcher that is ready")
        assert led.address is not None
        generations.append(led.generation)
        led.shut()
        until(lambda: led.address is None, "it ends")
        assert not led.state().ready and not led.start(1, [])
    led.close()
    assert generations[1] > generations[0] > 0, "what the first was handed, the second knows nothing of"
    assert len(under.opened) == 2
