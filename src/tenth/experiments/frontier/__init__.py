"""The frontier of an experiment: prompt obeyed and person kept, over text guidance and adapter scale."""
