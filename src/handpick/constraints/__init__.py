"""What holds for a selection whatever algorithm ordered it: shares of sources, examples to keep, no near-duplicates.

An algorithm's order is walked from its head, and what a constraint forbids is passed over. The orders of several
targets take turns, and a turn whose candidates are passed over is not lost. Ours.
"""

from handpick.constraints.limits import Examples, parse_limit
from handpick.constraints.near_duplicates import Candidates, NearDuplicate
from handpick.constraints.order import Order, Pick, combine_picks
from handpick.constraints.quotas import Source
from handpick.constraints.walk import PassedOver, Walk

__all__ = [
    "Candidates",
    "Examples",
    "NearDuplicate",
    "Order",
    "PassedOver",
    "Pick",
    "Source",
    "Walk",
    "combine_picks",
    "parse_limit",
]
