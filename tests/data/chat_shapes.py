"""Conversation shapes that chat templates treat differently, as a record's JSON: words are distinctive, turns short."""

from typing import Any

Message = dict[str, Any]


def user(text: Any) -> Message:
    """Return a user's turn."""
    return {"role": "user", "content": text}


def assistant(text: Any, **fields: Any) -> Message:
    """Return an assistant's turn."""
    return {"role": "assistant", "content": text, **fields}


def call(text: Any = "") -> Message:
    """Return an assistant's turn that calls a function. Some templates want ids of nine letters and digits."""
    function = {"name": "get_weather", "arguments": {"city": "Quito", "days": 3}}
    return assistant(text, tool_calls=[{"id": "call00001", "type": "function", "function": function}])


def result() -> Message:
    """Return the turn with what the function gave."""
    return {"role": "tool", "tool_call_id": "call00001", "name": "get_weather", "content": '{"sky": "overcast"}'}


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Tell the forecast.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "Where."},
                    "days": {"type": "integer", "description": "How many."},
                },
                "required": ["city"],
            },
        },
    }
]
ASK = user("Which mountain is tallest?")
AGAIN = user("And the second?")
SHAPES: dict[str, dict[str, Any]] = {
    "several turns": {
        "messages": [
            ASK,
            assistant("Everest, clearly."),
            AGAIN,
            assistant("Then K2."),
            user("Third?"),
            assistant("Kangchenjunga."),
        ]
    },
    "earlier thinking": {
        "messages": [
            ASK,
            assistant("Everest, clearly.", reasoning_content="Compare heights first."),
            AGAIN,
            assistant("Then K2.", reasoning_content="Skip the summit above."),
        ]
    },
    "plain": {"messages": [ASK, assistant("Everest, clearly.")]},
    "empty think": {"messages": [ASK, assistant("<think>\n\n</think>\n\nEverest, clearly.")]},
    "tools": {"messages": [user("Weather in Quito?"), call()], "tools": TOOLS},
    "tool results": {
        "messages": [user("Weather in Quito?"), call(), result(), assistant("Clouds all day.")],
        "tools": TOOLS,
    },
    "null content": {
        "messages": [user("Weather in Quito?"), call(None), result(), assistant("Clouds all day.")],
        "tools": TOOLS,
    },
    "list content": {
        "messages": [
            user([{"type": "text", "text": "Which mountain is tallest?"}]),
            assistant([{"type": "text", "text": "Everest, clearly."}]),
        ]
    },
    "developer": {
        "messages": [{"role": "developer", "content": "Answer tersely."}, ASK, assistant("Everest, clearly.")]
    },
    "late system": {
        "messages": [
            ASK,
            assistant("Everest, clearly."),
            {"role": "system", "content": "Answer tersely."},
            AGAIN,
            assistant("Then K2."),
        ]
    },
    "system": {"messages": [{"role": "system", "content": "Answer tersely."}, ASK, assistant("Everest, clearly.")]},
    "assistant first": {"messages": [assistant("Welcome, traveller."), ASK, assistant("Everest, clearly.")]},
    "trimmed and repeated": {
        "messages": [ASK, assistant("  \n Everest, clearly. \n\n"), AGAIN, assistant("Everest, clearly.")]
    },
    "weights": {"messages": [ASK, assistant("Mont Blanc, wrongly.", weight=0), AGAIN, assistant("Then K2.", weight=1)]},
    "empty earlier answer": {"messages": [ASK, assistant(""), AGAIN, assistant("Then K2.")]},
    "answer repeats prompt": {
        "messages": [user("Say Everest."), assistant("Say Everest."), user("assistant"), assistant("assistant")]
    },
    "two answers": {"messages": [ASK, assistant("Everest, clearly."), assistant("Also called Sagarmatha.")]},
    "thought in text": {"messages": [ASK, assistant("<think>Compare heights first.</think>Everest, clearly.")]},
}
# What the table counts; a kind is right where all its shapes are.
KINDS: dict[str, tuple[str, ...]] = {
    "several turns": ("several turns",),
    "thinking of earlier turns": ("earlier thinking",),
    "empty think block": ("plain", "empty think"),
    "tools": ("tools",),
    "tool results": ("tool results",),
    "null and list content": ("null content", "list content"),
    "developer and late system": ("developer", "late system"),
    "system": ("system",),
    "assistant first": ("assistant first",),
    "trimmed or repeated": ("trimmed and repeated",),
    "weights": ("weights",),
    "empty earlier answer": ("empty earlier answer",),
    "answer repeats prompt": ("answer repeats prompt",),
    "two answers in a row": ("two answers",),
    "thought in the text": ("thought in text",),
}


def as_templates_take_it(messages: list[Message]) -> list[Message]:
    """Return turns as they go to a template: text for content, no weight."""
    taken = []
    for message in messages:
        content = message["content"]
        if isinstance(content, list):
            content = "".join(part["text"] for part in content)
        fields = {name: value for name, value in message.items() if name != "weight"}
        taken.append({**fields, "content": "" if content is None else content})
    return taken


def is_learnt(message: Message) -> bool:
    """Return whether the data lets the turn be learnt."""
    return message["role"] == "assistant" and message.get("weight") != 0
