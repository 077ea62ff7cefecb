"""What a command will cost, said before anything starts: tokens, operations, disk, memory, and time from a probe."""

from handpick.plan.cost import Amount, Plan, Stage
from handpick.plan.evaluate import plan_evaluate
from handpick.plan.select import plan_represent, plan_select
from handpick.plan.study import plan_study
from handpick.plan.train import plan_train

__all__ = ["Amount", "Plan", "Stage", "plan_evaluate", "plan_represent", "plan_select", "plan_study", "plan_train"]
