"""`python -m deploy.compose.demo.strategies`: make strategies.yaml beside this out of config/strategies.yaml.

The simulator plays an hour in seconds, and its instruments come minutes apart; live, five seconds are much. So accounts wait longer.
"""

from pathlib import Path

import yaml

SOURCE = Path("config/strategies.yaml")
TARGET = Path(__file__).with_name("strategies.yaml")
BEHIND_SECONDS = 600
HEAD = "# Made of config/strategies.yaml by `python -m deploy.compose.demo.strategies`: accounts wait for the demo's history.\n"


def patient(text: str) -> str:
    """Return a strategies file whose accounts wait for the history's instruments."""
    plan = yaml.safe_load(text)
    for account in plan["accounts"]:
        account["behind_seconds"] = BEHIND_SECONDS
    return HEAD + yaml.safe_dump(plan, sort_keys=False)


if __name__ == "__main__":
    TARGET.write_text(patient(SOURCE.read_text()))
