"""Train the language model that handpick ships, with its tokenizer.

    export MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592  # keeps freed pages: 1.8 x faster
    python scripts/bundled/train_model.py --pool pool.jsonl.gz --out src/handpick/bundled/model

A Llama of 7.2 million parameters, from nothing, on the permissive two thirds of the pool less the held-out
families (handpick/bundled/split.py says which). It writes the model, the tokenizer, training_log.csv and
report.json (held-out loss beside the unigram's, answers to easy prompts), from which the model card is made.
"""

import argparse
import csv
import gzip
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from handpick.bundled.split import is_unseen, may_train, normalise_messages
from handpick.data.chat_template import TULU_TEMPLATE
from handpick.data.examples import Message
from handpick.data.render import Renderer

SPECIAL = ["<|end|>", "<|pad|>", "<|user|>", "<|assistant|>", "<|system|>"]
MAX_LENGTH = 512
EASY = [
    'Is the following sentence factually correct?\n"Dogs can fly."\nOptions:\n- yes\n- no',
    'Claim: "Water is wet."\nIs the claim above correct, and can it be verified by human common sense and without a '
    "web search?\nOptions:\n- yes\n- no",
    "Please choose the correct answer to the question: A plant needs what to grow?\n\nAnswer1: sunlight Answer2: a "
    "television Answer3: a hammer Answer4: a coin\n\nAnswer format: answer1/answer2/answer3/answer4",
    "Put the concepts together to form a sentence: dog, park, run, ball.",
    "toolformer: enabled\ntoolformer access: wolfram\nA wolfram alpha search engine. Useful for when you need to answer "
    "questions about Math, Science, Technology, Culture, Society and Everyday Life. Input should be a search query.\n"
    "wolfram(query)\nHow tall is the Eiffel Tower?",
]


def read(pool: Path) -> tuple[list[tuple[Message, ...]], list[tuple[Message, ...]]]:
    """(train, held out): the same families, the held out ones from the unseen third."""
    train, held_out, seen = [], [], set()
    with gzip.open(pool, "rt", encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            messages = tuple(Message(m["role"], m["content"]) for m in record["messages"])
            text = normalise_messages(messages)
            if not may_train(record) or text in seen:
                continue
            seen.add(text)
            (held_out if is_unseen(messages) else train).append(messages)
    return train, held_out


def train_tokenizer(conversations: list[tuple[Message, ...]], vocab_size: int) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator((m.content for messages in conversations for m in messages), trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|pad|>", model_max_length=2048,
        extra_special_tokens=SPECIAL[2:], clean_up_tokenization_spaces=False,
    )  # fmt: skip
    fast.chat_template = TULU_TEMPLATE
    return fast


def batches(lengths: np.ndarray, tokens: int, rng: np.random.Generator | None) -> list[np.ndarray]:
    """Indices grouped by like length, each group at most ``tokens`` once padded; shuffled when training."""
    noise = rng.uniform(-8, 8, len(lengths)) if rng else np.zeros(len(lengths))
    groups, current = [], []
    for i in np.argsort(lengths + noise, kind="stable"):
        longest = max(int(lengths[i]), max((int(lengths[j]) for j in current), default=0))
        if current and longest * (len(current) + 1) > tokens:
            groups.append(np.array(current))
            current = []
        current.append(i)
    groups.append(np.array(current))
    if rng:
        rng.shuffle(groups)
    return groups


def padded(sequences: list[list[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    width = -(-max(map(len, sequences)) // 16) * 16
    ids = torch.full((len(sequences), width), pad)
    labels = torch.full((len(sequences), width), -100)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = labels[row, : len(sequence)] = torch.tensor(sequence)
    return ids, labels


def loss_sum(model: LlamaForCausalLM, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Sum over real tokens of the next-token loss. Padding stands on the right, so causality hides it."""
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    target = labels[:, 1:]
    kept = target != -100
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[kept]).float(), target[kept], reduction="sum")


@torch.no_grad()
def held_out_loss(model: LlamaForCausalLM, sequences: list[list[int]], pad: int) -> float:
    model.eval()
    total = count = 0.0
    for group in batches(np.array([len(s) for s in sequences]), 8192, None):
        ids, labels = padded([sequences[i] for i in group], pad)
        with torch.autocast("cpu", torch.bfloat16):
            total += loss_sum(model, ids, labels).item()
        count += float((labels[:, 1:] != -100).sum())
    model.train()
    return total / count


def unigram_loss(train: list[list[int]], held_out: list[list[int]], vocab_size: int) -> float:
    counts = np.ones(vocab_size)  # add-one smoothing
    for sequence in train:
        np.add.at(counts, sequence[1:], 1)
    nats = -np.log(counts / counts.sum())
    tokens = np.concatenate([np.array(s[1:]) for s in held_out])
    return float(nats[tokens].mean())


@torch.no_grad()
def answer(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompt: str) -> str:
    model.eval()
    text = Renderer(tokenizer).text([Message("user", prompt)], add_generation_prompt=True)
    inputs = tokenizer(text, return_tensors="pt", add_special_tokens=False, return_token_type_ids=False)
    out = model.generate(**inputs, max_new_tokens=60, do_sample=False, pad_token_id=tokenizer.pad_token_id)
    return tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=float, default=4)
    parser.add_argument("--lr", type=float, default=2.5e-3)
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="one leaves the other core to you")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)

    train_text, held_out_text = read(args.pool)
    tokenizer = train_tokenizer(train_text, vocab_size=8192)
    renderer = Renderer(tokenizer)

    def encode(conversations: list[tuple[Message, ...]]) -> list[list[int]]:
        texts = [renderer.text(messages) for messages in conversations]
        return [ids[:MAX_LENGTH] for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]

    train, held_out = encode(train_text), encode(held_out_text)
    held_out = [held_out[i] for i in rng.permutation(len(held_out))[:1500]]
    lengths = np.array([len(s) for s in train])
    print(f"{len(train)} conversations, {lengths.sum() / 1e6:.2f} M tokens to train on; {len(held_out)} held out")

    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=256,
            intermediate_size=768,
            num_hidden_layers=6,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=2048,
            tie_word_embeddings=True,
            attn_implementation="eager",
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    model.train()
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters")
    decay = [p for p in model.parameters() if p.ndim == 2]
    rest = [p for p in model.parameters() if p.ndim != 2]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}],
        lr=args.lr,
        betas=(0.9, 0.95),
        fused=True,
    )

    per_epoch = len(batches(lengths, args.batch_tokens, np.random.default_rng(0)))
    steps = int(per_epoch * args.epochs)
    args.out.mkdir(parents=True, exist_ok=True)
    log = csv.writer((args.out / "training_log.csv").open("w", newline=""))
    log.writerow(["step", "epoch", "train_loss", "held_out_loss", "minutes"])
    start, recent, queue = time.monotonic(), [], []
    for step in range(steps):
        if not queue:
            queue = batches(lengths, args.batch_tokens, rng)
        warm = min(1.0, (step + 1) / 100)
        for group in optimizer.param_groups:
            group["lr"] = args.lr * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        ids, labels = padded([train[i] for i in queue.pop()], tokenizer.pad_token_id)
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_sum(model, ids, labels) / (labels[:, 1:] != -100).sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        recent.append(loss.item())
        if (step + 1) % 50 == 0 or step + 1 == steps:
            minutes = (time.monotonic() - start) / 60
            held = held_out_loss(model, held_out, tokenizer.pad_token_id) if (step + 1) % 500 == 0 else float("nan")
            row = [step + 1, (step + 1) / per_epoch, np.mean(recent), held, minutes]
            log.writerow([f"{x:.4f}" if isinstance(x, float) else x for x in row])
            print(" ".join(f"{x:.3f}" if isinstance(x, float) else str(x) for x in row), "of", steps, flush=True)
            recent = []

    final = held_out_loss(model, held_out, tokenizer.pad_token_id)
    unigram = unigram_loss(train, held_out, len(tokenizer))
    model = model.to(torch.float16)
    model.save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)
    shipped = LlamaForCausalLM.from_pretrained(args.out, dtype=torch.float32)
    report = {
        "held_out_loss_per_token": final,
        "held_out_loss_per_token_of_the_float16_file": held_out_loss(shipped, held_out, tokenizer.pad_token_id),
        "unigram_loss_per_token": unigram,
        "steps": steps,
        "epochs": steps / per_epoch,
        "train_conversations": len(train),
        "train_tokens": int(lengths.sum()),
        "minutes": (time.monotonic() - start) / 60,
        "answers": [{"prompt": p, "answer": answer(shipped, tokenizer, p)} for p in EASY],
    }
    (args.out / "report.json").write_text(json.dumps(report, indent=1))
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
