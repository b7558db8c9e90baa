"""`python -m services.replay COMMAND`: a command is one module and one line here."""

import typer

from runtime import commands
from services.replay import computing, importing

COMMANDS = {
    "import": importing.run,
    "compute": computing.run,
}

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def replay() -> None:
    """Recorded data through the core."""


for name, command in COMMANDS.items():
    app.command(name)(command)

if __name__ == "__main__":
    commands.run(app, "replay")
