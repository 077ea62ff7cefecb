"""Do preferences and rewards choose differently, and better for their purpose?

    python benchmarks/objectives.py

On the shipped model and the 3,149-example cut of the pool: ROSE for PandaLM and for HH-harmless pairs, NICE for boolq
(choice), gsm8k (exact match), mbpp (unit tests) and a rule without labels (one short sentence), each against less-rr on
the answers of the same records and against random. Reported are what the samples say, the overlap of the first 500, the
composition, and after fine-tuning on the first 100 what each objective is for, on held-out records. The data set is
found through HANDPICK_DATA. A run that is stopped goes on from its results file.
"""

import argparse
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from finetune import MAX_LENGTH, RECIPE, read, renderer_of

import handpick
from handpick import bundled
from handpick.data.batching import collate, token_batches
from handpick.data.pool import Pool
from handpick.data.render import Renderer
from handpick.errors import DataError
from handpick.gradients.likelihood import log_likelihoods
from handpick.model import load_base, padding_id
from handpick.objectives.preference import Preference
from handpick.rewards import find_reward, score
from handpick.sampling.generate import Sampling, end_ids, sample
from handpick.training.warmup import load_trainable, new_adapter, train

DATA = Path(os.environ.get("HANDPICK_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))
RULE = f"{Path(__file__).parent / 'rewards_short.py'}:one_short_sentence"


@dataclass(frozen=True)
class Case:
    """One purpose: its queries and how they are used."""

    name: str
    query: Path
    settings: dict[str, Any]
    plain: bool = True  # whether less-rr has answers to these queries


def cases() -> list[Case]:
    target, pairs = DATA / "targets", DATA / "preferences"
    nice: dict[str, Any] = {"method": "nice", "advantage": "rloo", "samples": 20}
    return [
        Case("rose pandalm", pairs / "pandalm/dev.jsonl.gz", {"method": "rose"}),
        Case("rose hh", pairs / "hh_harmless/dev.jsonl.gz", {"method": "rose"}),
        Case("nice boolq", target / "boolq/dev.jsonl.gz", nice | {"reward": "choice", "max_new_tokens": 12}),
        Case("nice short", pairs / "pandalm/dev.jsonl.gz", nice | {"reward": RULE, "max_new_tokens": 48}, plain=False),
        Case(
            "nice gsm8k", target / "gsm8k/dev.jsonl.gz",
            nice | {"reward": "exact-match:last-number", "max_new_tokens": 96},
        ),
        Case(
            "nice mbpp", target / "mbpp/dev.jsonl.gz",
            nice | {"reward": "unit-tests", "allow_code_execution": True, "max_new_tokens": 128},
        ),
    ]  # fmt: skip


@dataclass
class Results:
    """What is done, on disk after every step."""

    path: Path
    found: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.path.exists():
            self.found = json.loads(self.path.read_text())

    def keep(self, key: str, value: Any) -> None:
        self.found[key] = value
        self.path.write_text(json.dumps(self.found, indent=1, sort_keys=True) + "\n")
        print(key, value if len(str(value)) < 300 else "", flush=True)


class Evaluation:
    """Everything that is measured of a model, on held-out records that are the same for all."""

    def __init__(self, model: str, renderer: Renderer, scratch: Path, n: int) -> None:
        self.model, self.renderer, self.n = model, renderer, n

        def held(path: str) -> Pool:
            return read([DATA / path], scratch)

        self.pairs = {
            "pandalm": held("preferences/pandalm/test.jsonl.gz"),
            "hh": held("preferences/hh_harmless/test.jsonl.gz"),
        }
        self.prompts = {
            "boolq": (held("targets/boolq/test.jsonl.gz"), "choice", 12),
            "short": (self.pairs["pandalm"], RULE, 48),
            "gsm8k": (held("targets/gsm8k/test.jsonl.gz"), "exact-match:last-number", 96),
        }
        base = new_adapter(load_base(model, torch.float32), RECIPE.lora, 0, in_float32=True)  # B is zero: the base
        self.base = {name: self.margins(base, pool) for name, pool in self.pairs.items()}

    def drawn(self, pool: Pool) -> list[int]:
        return sorted(np.random.default_rng(0).permutation(len(pool))[: self.n].tolist())

    def margins(self, model: Any, pool: Pool) -> np.ndarray:
        """log π(chosen) − log π(rejected) of every pair, summed over tokens."""
        pairs = Preference(self.renderer, MAX_LENGTH).prepare([pool[row] for row in self.drawn(pool)]).items
        sequences = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
        log_S = np.empty(len(sequences))
        for members in token_batches([len(s.input_ids) for s in sequences], 2048):
            log_S[members] = log_likelihoods(model, collate([sequences[i] for i in members], 0)).numpy()
        chosen, rejected = log_S.reshape(2, -1)
        return chosen - rejected

    def reward(self, model: Any, pool: Pool, spec: str, max_new_tokens: int) -> float:
        """The mean reward of two samples per prompt."""
        examples = [pool[row] for row in self.drawn(pool)]
        asked = [[m for m in e.messages if m.role != "assistant"][:1] for e in examples]
        prompts = [self.renderer.prompt(messages) for messages in asked]
        room = [i for i, ids in enumerate(prompts) if len(ids) + max_new_tokens <= MAX_LENGTH]
        texts: dict[int, list[str]] = {}
        sampling = Sampling(samples=2, max_new_tokens=max_new_tokens)
        for group in sample(
            model, self.renderer.tokenizer, [prompts[i] for i in room], sampling, seed=0,
            pad_id=padding_id(self.renderer.tokenizer), ends=end_ids(model, self.renderer.end_ids),
        ):  # fmt: skip
            for i, samples in zip(group.prompts, group.samples, strict=True):
                texts[room[i]] = [drawn.text for drawn in samples]
        flat = [(i, text) for i in room for text in texts[i]]
        records = [json.loads(e.raw) for e in examples]
        told = [[{"role": m.role, "content": m.content} for m in messages] for messages in asked]
        return float(
            np.mean(
                score(
                    find_reward(spec), [told[i] for i, _ in flat], [text for _, text in flat],
                    [records[i] for i, _ in flat], [examples[i].id for i, _ in flat],
                )
            )
        )  # fmt: skip

    def of(self, model: Any) -> dict[str, float]:
        found = {}
        for name, pool in self.pairs.items():
            margin_P = self.margins(model, pool)
            found[f"{name} log π(w) > log π(l)"] = float((margin_P > 0).mean())
            found[f"{name} margin grows"] = float((margin_P > self.base[name]).mean())
        for name, (pool, spec, max_new_tokens) in self.prompts.items():
            found[f"{name} reward"] = self.reward(model, pool, spec, max_new_tokens)
        return {name: round(value, 4) for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(bundled.model_path()))
    parser.add_argument("--pool", type=Path, default=DATA / "pool" / "pool_small.jsonl.gz")
    parser.add_argument("--chosen", type=int, default=500)
    parser.add_argument("--tuned-on", type=int, default=100)
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--tests", type=int, default=100, help="held-out records a purpose")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=Path, default=Path("runs/objectives"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/objectives"))
    args = parser.parse_args()
    if not DATA.exists():
        print(f"no data at {DATA}: set HANDPICK_DATA")
        return
    torch.set_num_threads(args.threads)
    args.runs.mkdir(parents=True, exist_ok=True)
    results = Results(args.out.with_suffix(".json"))
    renderer = renderer_of(args.model)
    given: dict[str, Any] = {
        "pool": str(args.pool), "model": args.model, "budget": args.chosen, "max_length": MAX_LENGTH,
        "out": str(args.runs / "select"),
    }  # fmt: skip

    for case in cases():
        for name, settings in [(case.name, case.settings), (f"less-rr for {case.name}", {"method": "less-rr"})]:
            if f"chosen {name}" in results.found or (name != case.name and not case.plain):
                continue
            try:
                selection = handpick.select(**given | {"query": str(case.query)} | settings)
                results.keep(f"chosen {name}", selection.ids)
            except DataError as error:
                results.keep(f"chosen {name}", str(error))
    pool = read([args.pool], args.runs)
    row_of = {example_id: row for row, example_id in enumerate(pool.ids())}
    usable = handpick.FeatureStore.open(args.runs / "select" / "features" / "pool").ids
    choices = {key.removeprefix("chosen "): ids for key, ids in results.found.items() if key.startswith("chosen ")}
    silent = [name for name, ids in choices.items() if isinstance(ids, str)]  # there is nothing to compare with
    choices = {n: ids for n, ids in choices.items() if n.removeprefix("less-rr for ") not in silent}
    for draw in range(args.draws):
        order = np.random.default_rng([7, draw]).permutation(len(usable))[: args.chosen]
        choices[f"random {draw}"] = [usable[i] for i in order]

    evaluation: Evaluation | None = None
    first = [case.name for case in cases()]
    for name in ["zero-shot", *sorted(choices, key=lambda n: (n not in first and "random" not in n, n))]:
        if f"tuned {name}" in results.found:
            continue
        evaluation = evaluation or Evaluation(args.model, renderer, args.runs, args.tests)
        scratch = Path(tempfile.mkdtemp())
        try:
            if name == "zero-shot":
                model = new_adapter(load_base(args.model, torch.float32), RECIPE.lora, 0, in_float32=True)
            else:
                chosen = [renderer(pool[row_of[i]].messages, MAX_LENGTH) for i in choices[name][: args.tuned_on]]
                pad_id = padding_id(renderer.tokenizer)
                paths = train(args.model, chosen, RECIPE, out=scratch, seed=0, pad_id=pad_id, dtype="float32")
                model = load_trainable(load_base(args.model, torch.float32), paths[-1:])
            results.keep(f"tuned {name}", evaluation.of(model))
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    page = report(results.found, choices, pool, args)
    args.out.with_suffix(".md").write_text(page)
    print(page)


def report(found: dict[str, Any], choices: dict[str, list[str]], pool: Pool, args: argparse.Namespace) -> str:
    kind_of = dict(zip(pool.ids(), pool.column("source"), strict=True))
    finer_of = dict(zip(pool.ids(), zip(pool.column("source"), pool.column("category"), strict=True), strict=True))
    words_of = {i: len(pool[row].messages[-1].content.split()) for row, i in enumerate(pool.ids())}
    kinds = [kind for kind, _ in Counter(kind_of.values()).most_common()]

    def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
        return "\n".join(["| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows]])

    rows = []
    for name, ids in choices.items():
        alone = choices.get(f"less-rr for {name}")
        overlap = f"{len(set(ids) & set(alone)) / len(ids):.0%}" if alone else "—"
        share = Counter(kind_of[i] for i in ids)
        rows.append([name, overlap, *(f"{share[kind] / len(ids):.0%}" for kind in kinds)])
    everything = Counter(kind_of.values())
    rows.append(["the pool", "", *(f"{everything[kind] / len(kind_of):.0%}" for kind in kinds)])
    chosen = table(["choice", "overlap with less-rr", *map(str, kinds)], rows)
    of_pool = Counter(finer_of.values())
    firsts = []
    for name, ids in choices.items():
        first = ids[: args.tuned_on]
        like = [finer_of[i] for i in first]
        shares = [
            f"{kind[1]} {n / len(first):.0%} ({of_pool[kind] / len(kind_of):.0%} of the pool)"
            for kind, n in Counter(like).most_common(3)
        ]
        gsm8k = sum(kind[1] == "gsm8k" for kind in like) / len(first)
        firsts.append([name, "; ".join(shares), f"{gsm8k:.0%}", f"{np.median([words_of[i] for i in first]):.0f}"])
    head = [f"first {args.tuned_on}", "commonest kinds", "gsm8k", "median words of an answer"]
    metrics = list(found["tuned zero-shot"])
    order = ["zero-shot", *choices]
    tuned = table(
        ["tuned on", *metrics],
        [[name, *(f"{found[f'tuned {name}'][m]:.3f}" for m in metrics)] for name in order],
    )
    refused = [f"- {key.removeprefix('chosen ')}: {text}" for key, text in found.items() if isinstance(text, str)]
    return "\n\n".join(
        [
            "# Preferences and rewards",
            f"Shipped model, {len(kind_of):,} candidates, {args.chosen} chosen, fine-tuned on the first "
            f"{args.tuned_on}, {args.tests} held-out records a purpose, one fine-tuning seed.",
            "## What is chosen", chosen, table(head, firsts), "## After fine-tuning", tuned,
            *(["## No choice", "\n".join(refused)] if refused else []),
        ]
    ) + "\n"  # fmt: skip


if __name__ == "__main__":
    main()
