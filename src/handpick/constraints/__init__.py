"""What holds for a selection whatever algorithm ordered it: shares of sources, examples to keep, no near-duplicates.

An algorithm's order is walked from its head, and what a constraint forbids is passed over. Also here: several orders,
one a target, that take turns. Ours.
"""

from handpick.constraints.near_duplicates import Candidates, NearDuplicate
from handpick.constraints.order import Order, Pick, combine_picks
from handpick.constraints.quotas import Source
from handpick.constraints.targets import Turn, split_between
from handpick.constraints.walk import PassedOver, Walk

__all__ = [
    "Candidates",
    "NearDuplicate",
    "Order",
    "PassedOver",
    "Pick",
    "Source",
    "Turn",
    "Walk",
    "combine_picks",
    "split_between",
]
