"""The commands that measure: experiments, folders of images, the benchmark."""
