"""How IP-Adapters go into the attention of each class of networks."""
