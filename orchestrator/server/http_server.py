"""The HTTP server of `tuneyard serve`: what is loaded once the port is open, and requests until SIGTERM."""

from __future__ import annotations

import gc
import logging
import os
import socket
import sys

import uvicorn

from orchestrator.api.app import create_app
from orchestrator.api.context import Services
from orchestrator.api.edge.connections import guarded, most_connections
from orchestrator.api.edge.listener import Listener
from orchestrator.api.submission.group_commit import GroupCommit
from orchestrator.config import Settings, write_client_config
from orchestrator.control.controller import Controller
from orchestrator.control.host_silence import Wakefulness
from orchestrator.control.leader.leadership import Leadership
from orchestrator.notify.mail import read_relay
from orchestrator.notify.sender import Sender
from orchestrator.store import Store

log = logging.getLogger("tuneyard")

# Containers made before the collector looks at the young ones. A request of a thousand jobs makes some 30,000 that
# all go when it is answered; Python's 700 would have it look at them 40 times over.
COLLECT_AFTER = 50_000
# How long the planner's thread may keep the interpreter while a request waits for it. A request gives it away at each
# system call, a dozen times: with Python's 5 ms it takes ten times as long beside the planner, with 0.5 ms a quarter
# longer than with this. The planner loses nothing that can be measured.
SWITCH_S = 0.0001


EXPOSED = (
    "plain HTTP on %s:%s, beyond this machine: others on the network path can read the token, and with it can run code "
    "on every GPU host. Keep it in a private network, or behind a proxy with TLS (docs/operating.md, Security)"
)


def answer(
    settings: Settings,
    listener: socket.socket,
    store: Store,
    leadership: Leadership,
    controller: Controller,
    awake: Wakefulness,
) -> None:
    """Take requests until SIGTERM."""
    relay = read_relay(settings.smtp_url, settings.smtp_from)
    services = Services(
        settings, store, controller.dispatch, controller, GroupCommit(store), leadership=leadership
    )
    write_client_config(settings)
    server = Listener(
        uvicorn.Config(
            create_app(services),
            http=guarded(most_connections()),
            ws="none",
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            timeout_graceful_shutdown=5,
        ),
        lambda: awake.beat("loop") if services.reports.admits else None,
        services.feed.close,
    )
    controller.give_way.crowded = lambda: services.reports.crowded
    controller.open()
    sender = Sender(
        leadership.store,
        settings.vault,
        controller.clock,
        lambda: leadership.leads,
        settings.notify_allowed,
        relay,
    )
    sender.open()
    # What is loaded now stays for good: the collector need not go through it again after each large request.
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)
    sys.setswitchinterval(SWITCH_S)
    log.info("tuneyard serves at %s (process %s)", settings.url, os.getpid())
    if settings.exposed:
        log.warning(EXPOSED, settings.host, settings.port)
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        pass
    finally:
        sender.close()
        services.lanes.close()
        services.reports.close()
        services.pulse.close()
