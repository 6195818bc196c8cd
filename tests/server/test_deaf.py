"""A server that is stopped for longer than a host may be silent ends nothing when it goes on."""

from __future__ import annotations

import signal
import time

import httpx

from tests.server.servers import Home, trained_job, training, until

LOST_S = 10.0
SHORT = ("--away-after", "4s", "--lost-after", f"{LOST_S:.0f}s")


def test_a_stopped_server_blames_nobody_and_notices_true_silence_all_the_same(home: Home) -> None:
    server = home.serve("--port", "0", *SHORT)
    with home.client() as http:
        http.timeout = httpx.Timeout(5.0)
        (made,) = http.post("/jobs", json=trained_job(home)).json()["jobs"]
        with training(http, made["id"]) as agent:
            until(lambda: agent.heard > 3)
            agent.speaks.clear()  # it tries again only in a while, after the server's next look
            server.send_signal(signal.SIGSTOP)
            time.sleep(1.5 * LOST_S)  # it is the length of the stop that matters
            server.send_signal(signal.SIGCONT)
            (other,) = until(lambda: http.post("/jobs", json=trained_job(home)).json()["jobs"])
            until(lambda: agent.job(other["id"])["reason"]["code"] != "new")  # it has looked
            assert agent.outcomes(made["id"]) == [None]
            agent.speaks.set()
            before = agent.heard
            until(lambda: agent.heard > before + 3)
            assert agent.outcomes(made["id"]) == [None]
        silent_from = time.monotonic()
        until(lambda: agent.outcomes(made["id"])[0] == "lost")
        assert time.monotonic() - silent_from < 30
