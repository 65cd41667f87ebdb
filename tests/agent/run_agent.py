"""Runs a real agent whose trainer is fake_trainer, warm, with nothing heavy to import.

python tests/agent/run_agent.py [ENTRY [PRELOAD]]        from the root of the repository
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    root = Path(__file__).resolve().parents[2]
    sys.path[0] = str(root)
    from trainer import agent

    entry = sys.argv[1] if len(sys.argv) > 1 else "tests.agent.fake_trainer:main"
    preload = sys.argv[2].split(",") if len(sys.argv) > 2 else []
    sys.exit(agent.main(dict(os.environ), entry=entry, preload=preload))
