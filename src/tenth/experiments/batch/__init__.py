"""Many images of many people: a plan -> rows -> shards, each drawn whole by any worker, with the same bytes."""
