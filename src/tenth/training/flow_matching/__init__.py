"""Training of transformers by flow matching: at which times, by which loss, and beside which frozen parts."""
