"""The shipped model is a real language model: it predicts text it has never seen far better than word counts do."""

import json

import torch

from handpick import bundled
from handpick.bundled.split import may_train
from handpick.data.examples import Message
from handpick.data.render import Renderer
from handpick.model import load_base, load_tokenizer
from tests.conftest import records


def test_it_predicts_unseen_records_of_the_kinds_it_was_trained_on() -> None:
    report = json.loads((bundled.model_path() / "report.json").read_text())
    renderer = Renderer(load_tokenizer(str(bundled.model_path())))
    model = load_base(str(bundled.model_path()), torch.float32).eval()
    nats: list[torch.Tensor] = []
    for record in [r for r in records(bundled.pool_paths()[0], 200) if may_train(r)][:40]:
        messages = [Message(m["role"], m["content"]) for m in record["messages"]]
        ids = torch.tensor([renderer(messages, 512).input_ids])
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, :-1]
        nats.append(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none"))
    assert float(torch.cat(nats).mean()) < report["unigram_loss_per_token"] / 3


def test_it_writes_the_answer_in_the_form_it_was_asked_for() -> None:
    tokenizer = load_tokenizer(str(bundled.model_path()))
    model = load_base(str(bundled.model_path()), torch.float32).eval()
    question = 'Is the following sentence factually correct?\n"Cats can drive a car."\nOptions:\n- yes\n- no'
    prompt = Renderer(tokenizer).text([Message("user", question)], add_generation_prompt=True)
    ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)["input_ids"]
    out = model.generate(  # type: ignore[operator]
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=80, do_sample=False
    )
    answer = tokenizer.decode(out[0, ids.shape[1] :])
    assert answer.rstrip().endswith(("The answer is yes.<|end|>", "The answer is no.<|end|>"))
