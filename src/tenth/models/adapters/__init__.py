"""IP-Adapters and weight changes: read, checked, installed, saved."""
