"""The words that settings take, where more than one room needs to know them."""

from typing import Literal

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
EpsMode = Literal["less", "adam"]
Optimizer = Literal["adam", "sgd"]
ProjectionKind = Literal["sparse", "rademacher", "none"]
