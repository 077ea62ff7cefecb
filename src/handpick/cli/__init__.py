"""The command line. It only calls the library, and loads it when a command runs, so that help is quick."""

from handpick.cli import audition, evaluate, iterselect, look, plan, report, study, train  # each adds its commands
from handpick.cli.app import app

__all__ = ["app", "audition", "evaluate", "iterselect", "look", "plan", "report", "study", "train"]
