"""What work takes: tokens, operations, disk, memory, and time from a probe on this machine."""
