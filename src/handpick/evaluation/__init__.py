"""What a model can do: its loss and its answers on a task, with intervals, and one model against another."""
