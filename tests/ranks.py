"""Ranks of a model in pieces: processes forked from a server that has imported what they need, once.

They cannot be forked from a test's own process: autograd refuses to run in a child of one where it has run.
"""

import json
import multiprocessing
import os
import socket
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from handpick.errors import HandpickError

_ENOUGH = timedelta(seconds=300)
_IMPORTED = ["tests.ranks", "peft", "transformers.models.llama.modeling_llama", "torch.distributed.fsdp"]
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(_IMPORTED)


def run_ranks(work: Callable[..., object], *arguments: object, world: int = 2) -> list[str]:
    """Run ``work(rank, *arguments)`` in so many processes, and return what became of each: "" where it ended well.

    An error that a user would see in a sentence is that sentence, any other its traceback.
    """
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{rank}.json" for rank in range(world)]
        processes = [
            _context.Process(target=_be_rank, args=(rank, world, port, file, work, arguments))
            for rank, file in enumerate(files)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        return [json.loads(file.read_text()) if file.exists() else "killed" for file in files]


def _be_rank(
    rank: int, world: int, port: int, file: Path, work: Callable[..., object], arguments: tuple[object, ...]
) -> None:
    import torch

    from handpick.gradients import sharded_model

    torch.set_num_threads(1)
    sharded_model._PATIENCE = _ENOUGH
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": str(world),
        "LOCAL_RANK": str(rank),
    }  # fmt: skip
    said = ""
    try:
        work(rank, *arguments)
    except HandpickError as error:
        said = str(error)
    except BaseException:
        said = traceback.format_exc()
    file.write_text(json.dumps(said))
    os._exit(0)  # what a rank leaves behind that others have left is not waited for
