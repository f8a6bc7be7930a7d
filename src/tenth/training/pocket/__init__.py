"""Training of the small model that ships in the package, stage by stage."""
