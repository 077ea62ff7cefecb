"""``python -m handpick``: the command line, for launchers that start modules."""

from handpick.cli import app

if __name__ == "__main__":
    app()
