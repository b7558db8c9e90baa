"""`python -m services.replay COMMAND`: a command is one module and one line here."""

import typer

from runtime import commands, log
from services.replay import backtest, computing, importing, lookahead, optimise, playing, recording, verifying

COMMANDS = {
    "import": importing.run,
    "record": recording.run,
    "compute": computing.run,
    "backtest": backtest.run,
    "optimise": optimise.run,
    "lookahead": lookahead.run,
    "verify": verifying.run,
    "publish": playing.run,
}

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def replay() -> None:
    """Recorded data through the core."""
    log.setup("replay", "warning")  # aiokafka would add lines of its own to the one that says what is wrong


for name, command in COMMANDS.items():
    app.command(name)(command)

if __name__ == "__main__":
    commands.run(app, "replay")
