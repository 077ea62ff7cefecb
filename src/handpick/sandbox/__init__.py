"""Running code that nobody has read: a process of its own that is shut in, limited, and gone when it is done."""
