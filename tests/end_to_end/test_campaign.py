"""The fault campaign: eight rounds with the suite, sixty with ``make campaign``."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.campaign import Campaign
from support.postgres import Server

SEED = 20261124


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]):
    def said(line: str) -> None:
        with capsys.disabled():
            print(f"  {line}", flush=True)  # noqa: T201

    return said


def test_processes_killed_at_random_moments_leave_no_trace_on_files(tmp_path: Path, say) -> None:
    Campaign(tmp_path, SEED, say=say).run(rounds=3)


def test_processes_killed_at_random_moments_leave_no_trace_on_postgresql(
    tmp_path: Path, postgres_server: Server, say
) -> None:
    Campaign(tmp_path, SEED + 1, postgres_server, say=say).run(rounds=5)


@pytest.mark.campaign
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("place", ["files", "postgresql"])
def test_sixty_rounds(tmp_path: Path, postgres_server: Server, say, place: str, seed: int) -> None:
    server = postgres_server if place == "postgresql" else None
    Campaign(tmp_path, seed, server, say=say).run(rounds=15)
