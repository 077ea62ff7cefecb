"""What a trainer makes of an export, against the tokens and labels that handpick wrote: one record after the other.

Runs in the trainer's own environment, without handpick::

    handpick export --selection RECORDS --model MODEL --to ms-swift --out OUT
    handpick export --selection RECORDS --model MODEL --to trl --out ORACLE
    python -m venv swift && swift/bin/pip install torch==2.13.0 ms-swift==4.6.0
    swift/bin/python benchmarks/trainers.py ms-swift OUT/ms_swift.yaml ORACLE/tokens.jsonl

So do ``axolotl`` (axolotl==0.19.0, OUT/axolotl.yaml) and ``llama-factory`` (llamafactory==0.9.5,
OUT/llama_factory.yaml). The trainer parses the config, loads the model and the data and prepares both, up to the first
step; then its rows are read one by one, as the collator hands them on. It ends with 1 where one is not handpick's.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

IGNORED = -100
Row = tuple[tuple[int, ...], tuple[int, ...]]


def rows_of(collate: Callable[[list[Any]], Any], data: Any) -> list[Row]:
    """Return the tokens and labels of every row by itself."""
    rows = []
    for row in data:
        batch = collate([row])
        kept = batch["attention_mask"][0] == 1 if "attention_mask" in batch else slice(None)
        rows.append((tuple(batch["input_ids"][0][kept].tolist()), tuple(batch["labels"][0][kept].tolist())))
    return rows


def read_ms_swift(config: Path) -> tuple[Any, list[Row]]:
    """Return the trainer's model and rows."""
    from swift.cli.main import parse_yaml_args
    from swift.pipelines.train.sft import SwiftSft

    class Untrained(SwiftSft):
        def train(self, trainer: Any) -> Any:
            self.stood = trainer
            return {}

    argv = [str(config)]
    parse_yaml_args(argv)
    argv += ["--report_to", "none"]
    command = Untrained(argv)
    command.run()
    return command.stood, rows_of(command.stood.data_collator, command.stood.train_dataset)


PACKAGES = {"ms-swift": "ms-swift", "axolotl": "axolotl", "llama-factory": "llamafactory"}


class BeforeTheFirstStep(Exception):
    """Holds the trainer that was about to train."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer


def caught(command: Callable[[], None]) -> tuple[Any, list[Row]]:
    """Run a command that ends in ``Trainer.train``, and stop it there."""
    from transformers import Trainer

    def stop(trainer: Any, *_: Any, **__: Any) -> None:
        raise BeforeTheFirstStep(trainer)

    Trainer.train = stop
    try:
        command()
    except BeforeTheFirstStep as reached:
        trainer = reached.trainer
        return trainer, rows_of(trainer.data_collator, trainer.train_dataset)
    raise RuntimeError("the command ended without having trained")


def read_axolotl(config: Path) -> tuple[Any, list[Row]]:
    """Return the trainer and its rows."""
    from axolotl.cli.train import do_cli

    return caught(lambda: do_cli(str(config)))


def read_llama_factory(config: Path) -> tuple[Any, list[Row]]:
    """Return the trainer and its rows."""
    from llamafactory.train.tuner import run_exp

    sys.argv = ["llamafactory-cli", str(config)]
    return caught(run_exp)


READERS = {"ms-swift": read_ms_swift, "axolotl": read_axolotl, "llama-factory": read_llama_factory}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("trainer", choices=READERS)
    parser.add_argument("config", type=Path)
    parser.add_argument("tokens", type=Path)
    given = parser.parse_args()
    trainer, rows = READERS[given.trainer](given.config)
    wanted = []
    for line in given.tokens.read_text().splitlines():
        record = json.loads(line)
        # the first token is predicted from nothing: what its label says makes no difference
        wanted.append((tuple(record["input_ids"]), (IGNORED, *record["labels"][1:])))
    found = Counter((ids, (IGNORED, *labels[1:])) for ids, labels in rows)
    equal = (found & Counter(wanted)).total()
    weights = {}
    for weight in trainer.model.parameters():
        weights.setdefault("trained" if weight.requires_grad else "frozen", set()).add(str(weight.dtype))
    args = trainer.args
    names = (
        "per_device_train_batch_size gradient_accumulation_steps num_train_epochs learning_rate lr_scheduler_type "
        "weight_decay adam_beta2 max_grad_norm bf16 fp16 gradient_checkpointing seed"
    )
    print(given.trainer, {name: version(name) for name in (PACKAGES[given.trainer], "transformers", "peft", "torch")})
    print({name: str(getattr(args, name)) for name in names.split()}, "rising:", args.get_warmup_steps(1000), "of 1000")
    print({kind: sorted(types) for kind, types in weights.items()})
    print(f"tokens and labels equal: {equal} of {len(wanted)} records; {len(rows)} rows")
    sys.exit(equal != len(wanted) or len(rows) != len(wanted))


if __name__ == "__main__":
    main()
