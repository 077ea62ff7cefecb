"""Conversation shapes that chat templates treat differently, as a record's JSON: words are distinctive, turns short."""

from typing import Any

Message = dict[str, Any]


def user(text: Any) -> Message:
    """Return a user's turn."""
    return {"role": "user", "content": text}


def assistant(text: Any, **fields: Any) -> Message:
    """Return an assistant's turn."""
    return {"role": "assistant", "content": text, **fields}


def call(text: Any = "", cities: tuple[str, ...] = ("Quito",), **fields: Any) -> Message:
    """Return an assistant's turn that calls a function. Some templates want ids of nine letters and digits."""
    calls = [
        {
            "id": f"call{number:05}",
            "type": "function",
            "function": {"name": "get_weather", "arguments": {"city": city, "days": 3}},
        }
        for number, city in enumerate(cities, start=1)
    ]
    return assistant(text, tool_calls=calls, **fields)


def result(number: int = 1, sky: str = "overcast") -> Message:
    """Return the turn with what a call gave."""
    content = f'{{"sky": "{sky}"}}'
    return {"role": "tool", "tool_call_id": f"call{number:05}", "name": "get_weather", "content": content}


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
# Further shapes of calls, which are tested as the others are and stand in no table.
MORE_CALLS: dict[str, dict[str, Any]] = {
    "two calls": {
        "messages": [
            user("Weather in Quito and Oslo?"),
            call("", ("Quito", "Oslo")),
            result(1),
            result(2, "bright"),
            assistant("Clouds here, sun there."),
        ],
        "tools": TOOLS,
    },
    "call with text": {
        "messages": [user("Weather in Quito?"), call("Looking it up."), result(), assistant("Clouds all day.")],
        "tools": TOOLS,
    },
    "call with thought": {
        "messages": [
            user("Weather in Quito?"),
            call("", reasoning_content="A forecast needs the tool."),
            result(),
            assistant("Clouds all day.", reasoning_content="Overcast means clouds."),
        ],
        "tools": TOOLS,
    },
    "calls in two exchanges": {
        "messages": [
            user("Weather in Quito?"),
            call(""),
            result(),
            assistant("Clouds all day."),
            user("And in Oslo?"),
            call("", ("Oslo",)),
            result(1, "bright"),
            assistant("Sun all day."),
        ],
        "tools": TOOLS,
    },
}
ALL_SHAPES = {**SHAPES, **MORE_CALLS}
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
