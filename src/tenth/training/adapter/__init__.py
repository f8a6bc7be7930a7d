"""Training of an aggregator of several photos and its IP-Adapter."""
