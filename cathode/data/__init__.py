"""Events, how they are read and written, regions, injections, and the samples that ship with the package."""
