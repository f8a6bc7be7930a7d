"""Tasks done by several processes: on this machine, or on all nodes of a Ray cluster."""
