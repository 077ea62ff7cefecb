"""What a command will cost, said before anything starts: tokens, operations, disk, memory, and time from a probe."""

from handpick.costs.cost import Amount, Plan, StageCost
from handpick.planning.comparison import MethodBill, MethodComparison, bill_of, compare_methods
from handpick.planning.devices import DeviceBill, at_rate, parse_devices, share_out
from handpick.planning.evaluate import plan_evaluate
from handpick.planning.select import plan_represent, plan_select
from handpick.planning.study import plan_study
from handpick.planning.train import plan_train
from handpick.planning.training_bill import TrainingBill, bill_training, parse_parameters

__all__ = [
    "Amount",
    "DeviceBill",
    "MethodBill",
    "MethodComparison",
    "Plan",
    "StageCost",
    "TrainingBill",
    "at_rate",
    "bill_of",
    "bill_training",
    "compare_methods",
    "parse_devices",
    "parse_parameters",
    "plan_evaluate",
    "plan_represent",
    "plan_select",
    "plan_study",
    "plan_train",
    "share_out",
]
