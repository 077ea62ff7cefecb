"""Help on one screen: of a command with many flags ``--help`` shows those that most runs name, ``--help-all`` all."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

Command = Callable[..., None]
_OWN = "help_all"


class FirstScreen(TyperCommand):
    """A command whose ``--help`` shows some of its flags, and says how many more there are.

    All flags are taken, completed and suggested as ever.
    """

    first: frozenset[str] = frozenset()  #: The flags that are shown, as Python has them, without arguments.

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help: of the first flags alone, or of all."""
        with self._first_alone():
            super().format_help(ctx, formatter)

    def format_all(self, ctx: typer.Context) -> None:
        """Write the help of every flag."""
        super().format_help(ctx, ctx.make_formatter())

    @contextmanager
    def _first_alone(self) -> Iterator[None]:
        options = [each for each in self.params if each.param_type_name == "option"]
        later = [each for each in options if each.name not in {*self.first, _OWN, "help"}]
        for each in later:
            each.hidden = True  # type: ignore[attr-defined]  # of options
        self.epilog = f"{len(later)} more flags: {self.name} --help-all"
        try:
            yield
        finally:
            self.epilog = None
            for each in later:
                each.hidden = False  # type: ignore[attr-defined]


def _show_all(ctx: typer.Context, is_asked: bool) -> None:
    if is_asked and isinstance(ctx.command, FirstScreen):
        ctx.command.format_all(ctx)
        raise typer.Exit


_HELP_ALL = inspect.Parameter(
    _OWN,
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[bool, typer.Option("--help-all", is_eager=True, callback=_show_all, help="Show every flag.")],
)


def add_command(app: typer.Typer, *first: str, **named: Any) -> Callable[[Command], Command]:
    """Decorate a function to be a command of ``app`` whose ``--help`` fits on a screen.

    Args:
        app: what gets the command.
        first: the flags that ``--help`` shows, as Python has them: ``"max_length"``.
        named: what else ``app.command`` takes.
    """

    def decorate(command: Command) -> Command:
        signature = inspect.signature(command)
        if unknown := set(first) - set(signature.parameters):
            raise ValueError(f"{command.__name__} has no flags {', '.join(sorted(unknown))} to show first")

        def run(**given: Any) -> None:
            given.pop(_OWN, None)
            command(**given)

        parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in signature.parameters.values()]
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__signature__ = inspect.Signature([*parameters, _HELP_ALL])  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in (*parameters, _HELP_ALL)}
        kind = type("FirstScreen", (FirstScreen,), {"first": frozenset(first)})
        return app.command(cls=kind, **named)(run)

    return decorate
