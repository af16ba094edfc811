"""Parts of ``tat train``: the network to train, the weights it leaves, the slices it shows, its curves."""
