"""The benchmark for several photos of one person: tasks for any system, and the scores of what it made of them."""
