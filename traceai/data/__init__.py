"""Data sets: the layouts they arrive in, the snapshots that training refers to, and what is made from them."""
