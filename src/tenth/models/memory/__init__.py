"""What a model needs, what the machine has, and the profile that fits."""
