"""The volumepoollet: Volumes of one pool, kept by a VolumeRuntime."""
