"""The table that a study fills, published numbers are read into, and reports are made of: one cell a measured model."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from handpick.documents import GONE
from handpick.errors import StoreError
from handpick.layout import StudyLayout
from handpick.sealed import read_sealed, unseal, write_sealed

Baseline = Literal["zero-shot", "random", "full", "longest"]
BASELINES: tuple[Baseline, ...] = get_args(Baseline)
ZERO_SHOT, RANDOM, FULL, LONGEST = BASELINES


class Cell(BaseModel):
    """One model, fine-tuned on one choice with one seed, measured on one target.

    ``budget`` is how many examples it was to learn from, None for the model as it is and for the full pool;
    ``quantile`` says which slice of the ordered pool they are, the nearest being 0. ``metrics`` and ``intervals`` (95%,
    over test examples) go by the metric's name, "loss" for the loss on the tests; ``dev_loss`` is the loss on the
    queries. ``distances`` of the choice to the queries are those of ``handpick.distance``, by the features that they
    are measured in (the name of the first method that has them) and then by the distance's name: TIS asks of every
    representation whether distance predicts loss, whatever chose the examples. ``left_out`` test records were not
    measured in every metric. ``steps`` names the hashed steps behind the numbers, by kind.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    method: str
    target: str
    budget: int | None = None
    quantile: int | None = None
    seed: int = 0
    status: Literal["done", "failed", "missing"] = "done"
    reason: str | None = None
    metrics: dict[str, float] = {}
    intervals: dict[str, tuple[float, float]] = {}
    dev_loss: float | None = None
    distances: dict[str, dict[str, float]] = {}
    chosen: int | None = None
    left_out: int | None = None
    seconds: float | None = None
    steps: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class CellKey:
    """Where a cell stands; ``seed`` is that of the training, and of random that of the draw as well."""

    model: str
    method: str
    target: str
    budget: int | None
    quantile: int | None
    seed: int

    def cell(self, **found: object) -> Cell:
        """Return the cell, with what was found; missing where nothing was."""
        at = {name: getattr(self, name) for name in self.__slots__}
        return Cell.model_validate({"status": "missing", **at, **found})


class Results(BaseModel):
    """All cells of a study, in the order of its grid.

    On disk what each of them took stands in a file of its own, so that the table depends on nothing but what was asked.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    name: str
    settings: dict[str, Any] = {}
    cells: list[Cell]

    def save(self, path: Path) -> None:
        """Write ``results.json``, whole or not at all.

        Raises:
            StoreError: the file cannot be written.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        document = self.model_dump(mode="json")
        seconds = [cell.pop("seconds") for cell in document["cells"]]
        write_sealed(StudyLayout(path.parent).cost, {"seconds": seconds})
        write_sealed(path, document)

    @classmethod
    def open(cls, path: Path) -> "Results":
        """Read back what ``save`` wrote.

        Raises:
            StoreError: there is no such file, or it is damaged or of another schema; or it cannot be read.
        """
        try:
            results = cls.model_validate(unseal(json.loads(path.read_bytes())))
        except GONE as error:
            raise StoreError(f"no results at {path} ({error.strerror}); name the folder of a study") from error
        except OSError as error:
            raise StoreError(f"{path} cannot be read ({error.strerror}); mend that") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the file"
            raise StoreError(f"{path} does not hold the results of a study: {where}: {first['msg']}") from error
        except (ValueError, TypeError, RecursionError) as error:
            raise StoreError(f"{path} is damaged ({error}); remove it, and the study writes it again") from error
        return results._with_seconds(StudyLayout(path.parent).cost)

    def _with_seconds(self, path: Path) -> "Results":
        """Return the same with what each cell took, where that is known; a table of before has it in its cells."""
        if not path.exists():
            return self
        seconds = read_sealed(path, "remove it: it says nothing but how long the cells took").get("seconds", [])
        if not isinstance(seconds, list) or len(seconds) != len(self.cells):  # cut short between the two files
            return self
        cells = [cell.model_copy(update={"seconds": took}) for cell, took in zip(self.cells, seconds, strict=True)]
        return self.model_copy(update={"cells": cells})
