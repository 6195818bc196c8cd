"""Settings: what wins, what is refused, what is kept secret."""

from __future__ import annotations

import os
import secrets
import stat

import pytest

from jobs.errors import UsageError
from orchestrator.config import (
    load,
    private_folder,
    ray_token,
    read_client_config,
    write_client_config,
)
from orchestrator.server.tokens import check_token
from workers.durable import publish


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in (
        "TUNEYARD_DATABASE",
        "TUNEYARD_TOKEN",
        "TUNEYARD_TRUSTED_MODELS",
        "TUNEYARD_TRUSTED_PROXIES",
    ):
        monkeypatch.delenv(name, raising=False)


def test_the_default_is_sqlite_in_the_home_on_loopback_with_a_token_of_its_own(tmp_path):
    made = load(tmp_path)
    assert made.database == f"sqlite:///{tmp_path / 'tuneyard.db'}"
    assert made.loopback and made.sees_files
    assert len(made.token) >= 32 and made.token != load(tmp_path).token


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path, monkeypatch):
    write_client_config(load(tmp_path, port=7001, token="from-file"))
    assert (load(tmp_path).token, load(tmp_path).port) == ("from-file", 7001)
    monkeypatch.setenv("TUNEYARD_TOKEN", "from-environment")
    assert load(tmp_path).token == "from-environment"
    assert load(tmp_path, token="from-flag").token == "from-flag"


@pytest.mark.parametrize(
    "token",
    [
        *(
            "change-me",
            "t#",
            "0123456789abcde",
            "a" * 40,
            "12" * 20,
            "Change_Me-" * 4,
            "your-token-goes-in-here-1",
        ),
        *(
            "PLEASE-REPLACE-ME-BEFORE-USE",
            "xxxxxxxxxxxxxxxx-yyyy-zz",
            "a b c d e f g h i j k l",
            "пароль-" * 4,
        ),
    ],
)
def test_a_token_that_can_be_guessed_is_refused_without_saying_it(tmp_path, token):
    with pytest.raises(UsageError, match="openssl rand -hex 32") as refused:
        check_token(token, tmp_path)
    assert token not in str(refused.value)


def test_tokens_that_are_made_are_taken(tmp_path):
    for _ in range(300):
        check_token(load(tmp_path).token, tmp_path)
        check_token(secrets.token_hex(32), tmp_path)
        check_token(secrets.token_hex(10), tmp_path)


def test_an_address_beyond_loopback_is_exposed(tmp_path):
    assert not load(tmp_path).exposed and not load(tmp_path, host="::1").exposed
    assert load(tmp_path, host="10.0.0.5").exposed


def test_proxies_are_addresses(tmp_path, monkeypatch):
    assert load(tmp_path).proxies == ()
    monkeypatch.setenv("TUNEYARD_TRUSTED_PROXIES", "10.0.0.2, 10.1.0.0/16")
    assert [str(one) for one in load(tmp_path).proxies] == ["10.0.0.2/32", "10.1.0.0/16"]
    with pytest.raises(UsageError, match=r"trusted proxy: 'proxy\.local' is no address"):
        load(tmp_path, proxies=("proxy.local",))


def test_names_in_the_environment_have_commas_between_and_an_empty_variable_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNEYARD_TRUSTED_MODELS", "a/one,b/two,")
    assert load(tmp_path).trusted_models == ("a/one", "b/two")
    assert load(tmp_path, trusted_models=("c/three",)).trusted_models == ("c/three",)
    for name in ("TUNEYARD_TRUSTED_MODELS", "TUNEYARD_DATABASE", "TUNEYARD_TOKEN"):
        monkeypatch.setenv(name, "")
    made = load(tmp_path)
    assert made.trusted_models == () and made.database.startswith("sqlite:") and len(made.token) >= 32


def test_secrets_are_for_the_owner_alone(tmp_path):
    write_client_config(load(tmp_path, port=7001))
    assert stat.S_IMODE((tmp_path / "config.json").stat().st_mode) == 0o600
    assert ray_token(tmp_path, "a") == ray_token(tmp_path, "b"), "it stays"
    assert ray_token(tmp_path / "1", "a") == ray_token(tmp_path / "2", "a") != ray_token(tmp_path / "3", "b")
    assert stat.S_IMODE((tmp_path / "run" / "ray_token").stat().st_mode) == 0o600


def test_a_scratch_folder_that_others_can_write_to_is_not_used(tmp_path):
    assert stat.S_IMODE(private_folder(tmp_path / "a").stat().st_mode) == 0o700
    (tmp_path / "b").mkdir()
    (tmp_path / "b").chmod(0o777)
    (tmp_path / "c").symlink_to(tmp_path / "a")
    for name in ("b", "c"):
        with pytest.raises(UsageError, match="not a folder of this user's alone"):
            private_folder(tmp_path / name)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            {"database": "mysql://x"},
            "database: 'mysql://x' is not usable; write sqlite:///PATH or postgresql://",
        ),
        ({"port": 70000}, "port: 70000 is not a port"),
        ({"host": "0.0.0.0"}, "--ray-ip"),
        ({"host": "my-host"}, "give an address"),
    ],
)
def test_a_setting_that_can_not_be_used_is_named(tmp_path, flags, words):
    with pytest.raises(UsageError, match=r".") as error:
        load(tmp_path, **flags)
    assert words in str(error.value)


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_damaged_config_file_says_what_to_do(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UsageError, match="or delete it: the server then writes a new one"):
        read_client_config(tmp_path)


def test_a_server_that_hosts_reach_does_not_claim_to_see_their_files(tmp_path):
    made = load(tmp_path, host="10.1.2.3")
    assert not made.loopback and not made.sees_files
    assert made.ray_address_ip == "10.1.2.3"
    assert load(tmp_path, host="10.1.2.3", shared_files=True).sees_files


def test_rays_folder_leaves_room_for_socket_names(tmp_path):
    deep = tmp_path / ("a" * 90)
    socket_name = "session_2026-11-23_01-05-36_232232_12345/sockets/plasma_store.1"
    assert len(str(load(deep).ray_folder / "ray" / socket_name)) < 107
    assert load(deep).ray_folder != load(tmp_path).ray_folder


def test_prices_come_from_the_file_and_flags_win_and_are_kept(tmp_path):
    (tmp_path / "config.json").write_text('{"prices": {"L40S": 0.9, "H100": 3}}')
    made = load(tmp_path, prices={"H100": 2.5})
    assert made.prices == {"L40S": 0.9, "H100": 2.5}
    write_client_config(made)
    assert load(tmp_path).prices == made.prices
    (tmp_path / "config.json").write_text('{"prices": {"L40S": "cheap"}}')
    with pytest.raises(UsageError, match=r"config\.json: prices has L40S='cheap'"):
        load(tmp_path)


def test_a_secret_is_on_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    done: list[str] = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (done.append("sync"), sync(file)))
    monkeypatch.setattr(os, "replace", lambda *paths: (done.append("replace"), replace(*paths)))
    publish(tmp_path / "secret", "s", private=True)
    assert done == ["sync", "replace", "sync"], "the file, its name, the folder that has it"
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600
    assert (tmp_path / "secret").read_text() == "s" and list(tmp_path.iterdir()) == [tmp_path / "secret"]
