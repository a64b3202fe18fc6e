"""One page over an archive, in which to see, hear and label its sounds."""
