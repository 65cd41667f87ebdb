"""What is said of an image that cannot run workers, and where the agent for images comes from."""

import subprocess
import sys
from pathlib import Path

from controller import carried_agent
from trainer.carried import lacking

ROOT = Path(__file__).resolve().parents[2]


def test_this_interpreter_lacks_nothing() -> None:
    assert lacking() == ""


def test_a_python_without_packages_is_told_apart() -> None:
    # -S: as if nothing had been installed.
    command = [sys.executable, "-S", "-m", "trainer.carried"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "this image cannot run workers: its python3 has no tensorflow; use an image with "
        "Python 3.11 or newer and TensorFlow 2.16 or newer\n"
    )


def test_the_trainer_image_has_the_code_where_it_is_taken_from() -> None:
    lines = (ROOT / "deploy/images/Dockerfile.trainer").read_text().splitlines()
    assert f"WORKDIR {carried_agent.CODE}" in lines
